"""The closed list of log events: a name that is not here fails a test, and so does one not used."""

from collections.abc import Mapping
from typing import Final

EVENTS: Final[Mapping[str, str]] = {
    # The daemon
    "started": "the daemon runs with this version and network",
    "status": "counters of all stages, once a minute",
    "stopping": "a signal came: no more data are received, the rest is picked and published",
    "drain_incomplete": "what had been received was not all picked before the time for it ended",
    "shutdown_overrun": "the daemon did not end in time after a signal and is ended by force",
    "stopped": "the daemon has ended; counters of all stages",
    "watchdog_stuck": "a part of the program stands still; systemd will restart it",
    "heartbeat_failed": "Redis is away: others do not hear of this picker until it is back",
    # Checkpoints
    "resumed": "the daemon goes on from a checkpoint",
    "checkpoint_unusable": "the checkpoint is damaged or of another version and was put aside",
    "checkpoint_failed": "the checkpoint cannot be written: a restart goes on from the last one",
    "checkpoint_written": "checkpoints are written again",
    "restart_gap": "data since the last checkpoint are missing: the server had them no more",
    "metrics_listening": "metrics and health can be asked for at this address",
    "metrics_unavailable": "the address for metrics cannot be listened at; picking goes on",
    # Waveforms
    "channel_rejected": "a channel has no place in its station and is not picked",
    "station_rejected": "a station cannot be picked, for instance for its sampling rate",
    "file_rejected": "a file holds no waveforms and is left out",
    "record_in_future": "a record is stamped later than any clock may be ahead and is left out",
    "rate_differs": "a channel has another rate than its instrument: kept aside until all agree",
    "rate_changed": "all channels of an instrument have a new rate: it begins anew",
    "record_rejected": "records cannot be read or do not fit their channel and are left out",
    # Picks
    "step_interval": "stations advance in wider steps, or narrower ones again: the machine is busy",
    "pick": "a pick was made and goes to the publisher",
    "pick_unreadable": "an entry of the Redis stream is no pick message and is left out",
    "event_unreadable": "an entry of the Redis stream is no event message and is left out",
    "tail_interrupted": "a Redis server that is read from is away; reading goes on when it is back",
    "picks_dropped": "the oldest picks were given up: a bound was reached while Redis is away",
    "picks_left_unpublished": "not all picks were sent in time; the spool keeps them",
    "picks_restored": "the server has lost picks that it had confirmed: they are sent again",
    "spool_failed": "the spool cannot be written; picks go to Redis directly",
    "spool_recovered": "the spool can be written again",
    "spool_damaged": "the spool was damaged: moved aside, what waited in it taken over",
    "asks_unanswered": "Redis is away: viewers get no waveforms until it is back",
    # Association
    "rows_rejected": "rows of a file of stations or picks cannot be used and are left out",
    "picks_of_unknown_stations": "picks are left out: the stations file lacks their stations",
    # SeedLink, receiving
    "seedlink_connected": "a server was reached and sends the channels asked for",
    "seedlink_disconnected": "a connection ended or failed and will be tried again",
    # SeedLink, replaying
    "replay_listening": "the replay server takes clients at this address",
    "replay_exhausted": "every record of the archive has been released",
    "replay_task_failed": "a session of the replay server ended by a fault of its own",
    "client_connected": "a client came to the replay server",
    "client_disconnected": "a client left the replay server",
    "client_lost": "a client of the replay server vanished without leaving",
    "client_refused": "the replay server has as many clients as it takes",
    "command_refused": "a client of the replay server sent what cannot be done",
    # Redis
    "redis_connected": "the server answers and takes picks",
    "redis_down": "publishing failed; picks wait until the server is back",
    "redis_up": "publishing works again",
    "redis_trim_failed": "old picks could not be removed from the stream",
    "redis_password_in_url": "the password is in the URL, where others can see it",
    "redis_reads_not_allowed": "the server refuses reading: picks that it loses are not sent again",
    "redis_scripts_not_allowed": "the server refuses scripts: a pick may enter the stream twice",
    # The embedded broker
    "broker_started": "a broker of our own was started",
    "broker_adopted": "the broker of an earlier start still runs and is used",
    "broker_settings_differ": "the running broker was started with other settings",
    "broker_failed": "the broker ended and could not be started again yet",
    "broker_killed": "the broker did not end when asked to and was killed",
    "broker_stopped": "the broker has ended",
}
