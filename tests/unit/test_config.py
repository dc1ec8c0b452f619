"""Settings: precedence, strict YAML, the error report, and the example that ships."""

from pathlib import Path

import pytest

from streamer.config import Config, example_yaml, load_config, split_server
from streamer.errors import ConfigError, NoInputError
from streamer.seedid import Nslc

EXAMPLE = Path(__file__).parents[2] / "deploy" / "msnet-stream.example.yaml"


@pytest.fixture
def from_yaml(tmp_path):
    def load(text, overrides=None, environ=None):
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return load_config(path, overrides or {}, environ or {})

    return load


@pytest.fixture
def problems(from_yaml, tmp_path):
    """The lines of the report on a bad configuration, without the folder of the file."""

    def report(text, overrides=None, environ=None):
        with pytest.raises(ConfigError) as caught:
            from_yaml(text, overrides, environ)
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return report


def test_without_any_source_everything_has_its_default():
    assert load_config(None, {}, {}) == Config()


def test_the_shipped_example_is_generated_from_the_settings():
    assert EXAMPLE.read_text() == example_yaml(), (
        "write streamer.config.example_yaml() to deploy/msnet-stream.example.yaml again"
    )


def test_the_shipped_example_sets_every_default():
    assert load_config(EXAMPLE, {}, {}) == Config()


def test_every_key_of_the_example_is_described():
    """A setting without a description would leave a bare `# ` line or `None` in the example."""
    lines = example_yaml().splitlines()
    keys = [n for n, line in enumerate(lines) if line and not line.lstrip().startswith("# ")]
    assert len(keys) > 30
    assert all(lines[n - 1].lstrip().startswith("# ") for n in keys)
    assert not any("None" in line for line in lines)


def test_command_line_beats_environment_beats_file_beats_default(from_yaml):
    text = "redis: {prefix: file, retention_days: 3, max_entries: 9}"
    environ = {"MSNET_STREAM_REDIS__PREFIX": "env", "MSNET_STREAM_REDIS__RETENTION_DAYS": "4"}
    redis = from_yaml(text, {"redis.prefix": "option"}, environ).redis
    assert (redis.prefix, redis.retention_days, redis.max_entries) == ("option", 4, 9)
    assert redis.url == "embedded:"


def test_options_and_variables_that_were_not_given_change_nothing(from_yaml):
    overrides = {"redis.url": None, "stations": ()}
    config = from_yaml("stations: [CI.*]", overrides, {"MSNET_STREAM_REDIS__URL": ""})
    assert config.stations == ("CI.*",)
    assert config.redis.url == "embedded:"


@pytest.mark.parametrize(
    ("text", "stations"),
    [
        ("stations: [NO, ON, 00, 010]", ("NO", "ON", "00", "010")),
        ("stations: [true, 1e3, 0x1F, 1_000]", ("true", "1e3", "0x1F", "1_000")),
        (
            "stations:\n  - CI.PASC.00.[HB]H?\n  - '*.*.00.HHZ'\n",
            ("CI.PASC.00.[HB]H?", "*.*.00.HHZ"),
        ),
        ("stations: IU_KONO:BHE BHN,GE_WLF", ("IU_KONO:BHE BHN,GE_WLF",)),
    ],
)
def test_codes_are_the_text_that_was_written(from_yaml, text, stations):
    """YAML 1.1 would read Norway as false and location 010 as 8."""
    assert from_yaml(text).stations == stations


def test_a_section_whose_keys_are_all_commented_out_has_its_defaults(from_yaml):
    assert from_yaml("redis:\n  # url: embedded:\nlog:\n") == Config()


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n"])
def test_an_empty_file_means_defaults(from_yaml, text):
    assert from_yaml(text) == Config()


def test_numbers_and_paths_get_their_types_from_text(from_yaml):
    config = from_yaml(
        "picking: {step_s: 5, threshold_p: 0.4, weights: ~/w.safetensors}\n"
        "redis: {embedded: {port: 6379}}"
    )
    assert config.picking.step_s == 5
    assert config.picking.threshold_p == 0.4
    assert config.picking.weights == Path.home() / "w.safetensors"
    assert config.redis.embedded.port == 6379


def test_an_unknown_key_is_reported_with_its_line_and_the_nearest_known_one(problems):
    text = "# one\nseedlink:\n  sever: x\n"
    assert problems(text) == [
        "c.yaml:3: seedlink.sever: Extra inputs are not permitted (did you mean 'servers'?)"
    ]


def test_all_errors_are_reported_at_once_each_with_its_source(problems):
    text = "log: {level: loud}\npicking:\n  tick_ms: 0\n"
    report = problems(text, {"redis.pot": 1}, {"MSNET_STREAM_REDIS__RETENTION_DAYS": "nan"})
    assert sorted(line.rsplit(": ", 1)[0] for line in report) == [
        "MSNET_STREAM_REDIS__RETENTION_DAYS: redis.retention_days",
        "c.yaml:1: log.level",
        "c.yaml:3: picking.tick_ms",
        "command line: redis.pot",
    ]


def test_errors_inside_lists_name_the_item_and_its_line(problems):
    text = (
        "waveforms:\n  sampling:\n    - {pattern: XX, mode: native}\n    - {patern: XX, mode: no}\n"
    )
    assert problems(text) == [
        "c.yaml:4: waveforms.sampling[1].pattern: Field required",
        "c.yaml:4: waveforms.sampling[1].mode: Input should be 'resample' or 'native'",
        "c.yaml:4: waveforms.sampling[1].patern: Extra inputs are not permitted"
        " (did you mean 'pattern'?)",
    ]


def test_a_key_given_twice_is_an_error(problems):
    assert problems("agency: AA\nagency: BB\n") == ["c.yaml:2: agency: given before at c.yaml:1"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("stations:\n  - !CI.BAD\n", 2),
        ("stations:\n  - *.*.00.HHZ\n", 2),
        ("a: &x 1\nb: *x\n", 2),
        ("redis:\n  url: embedded: now\n", 2),
        ("stations: [CI.*.*.HH?]\n", 1),
        ("stations: [\n", 2),
    ],
)
def test_what_yaml_would_misread_is_an_error_that_says_to_quote(problems, text, line):
    (message,) = problems(text)
    assert message.startswith(f"c.yaml:{line}: ")
    assert "needs quotes" in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- a\n", "c.yaml:1: keys such as"),
        ("just text", "c.yaml:1: keys such as"),
        ("agency: \x00", "c.yaml: not a YAML text"),
        ("redis: 5\n", "c.yaml:1: redis: Input should be a section"),
        ("? [a, b]\n: 1\n", "c.yaml:1: "),
        ("agency: 'no spaces'\n", "c.yaml:1: agency: String should match pattern"),
        ("picking: {threshold_p: 1}\n", "c.yaml:1: picking.threshold_p: Input should be less than"),
        ("picking: {step_s: 3}\n", "c.yaml:1: picking.step_s: Input should be 1, 2 or 5"),
        ("seedlink: {start: then}\n", "c.yaml:1: seedlink.start: 'then' is neither now"),
        ("seedlink: {servers: 'a,b:99999'}\n", "c.yaml:1: seedlink.servers: 'b:99999' is not host"),
        ("waveforms: {sampling: [{pattern: '!XX', mode: native}]}", "is negated"),
        ("waveforms: {sampling: [{pattern: x.y, mode: native}]}", "cannot be part of a code"),
    ],
)
def test_each_bad_value_is_named(problems, text, part):
    (message,) = problems(text)
    assert part in message


def test_an_environment_section_cannot_hide_a_wrong_file(problems):
    assert problems("redis: 5\n", environ={"MSNET_STREAM_REDIS__URL": "redis://h"}) == [
        "c.yaml:1: redis: Input should be a section with keys of its own"
    ]


def test_a_variable_of_an_unknown_setting_is_an_error_and_the_password_is_not(problems, from_yaml):
    environ = {"MSNET_STREAM_REDIS_PASSWORD": "secret", "MSNET_STREAM_CONFIG": "x.yaml"}
    assert from_yaml("", environ=environ) == Config()
    (message,) = problems("", environ=environ | {"MSNET_STREAM_AGENTCY": "AA"})
    assert message == (
        "MSNET_STREAM_AGENTCY: agentcy: Extra inputs are not permitted (did you mean 'agency'?)"
    )


def test_a_file_that_is_not_there_is_no_input(tmp_path):
    with pytest.raises(NoInputError, match=r"missing\.yaml: No such file"):
        load_config(tmp_path / "missing.yaml", {}, {})


def test_systemd_state_directory_is_the_default_of_state_dir(from_yaml):
    environ = {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}
    assert from_yaml("", environ=environ).state_dir == Path("/var/lib/a")
    assert from_yaml("state_dir: /x", environ=environ).state_dir == Path("/x")


def test_a_password_in_the_url_is_not_in_the_repr():
    config = load_config(None, {"redis.url": "redis://u:secret@h"}, {})
    assert "secret" not in repr(config)


def test_servers_are_split_at_commas_wherever_they_come_from(from_yaml):
    environ = {"MSNET_STREAM_SEEDLINK__SERVERS": "a, b:18001"}
    assert from_yaml("", environ=environ).seedlink.servers == ("a", "b:18001")
    overrides = {"seedlink.servers": ("a,b", "c")}
    assert from_yaml("", overrides).seedlink.servers == ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("rtserve.example.org", ("rtserve.example.org", 18000, False)),
        ("seedlink://10.0.0.1:18001", ("10.0.0.1", 18001, False)),
        ("[::1]", ("::1", 18000, False)),
        ("[fe80::1]:18500", ("fe80::1", 18500, True)),
        ("seedlinks://a.example", ("a.example", 18500, True)),
        ("seedlinks://a.example:443/", ("a.example", 443, True)),
    ],
)
def test_split_server_gives_host_port_and_whether_tls(text, server):
    assert split_server(text) == server


def test_the_name_of_a_server_is_host_and_port():
    assert str(split_server("seedlinks://[::1]")) == "[::1]:18500"
    assert str(split_server("a")) == "a:18000"


@pytest.mark.parametrize(
    "text", ["", ":18000", "host:", "host:0", "host:65536", "a b", "u@h", "::1"]
)
def test_split_server_refuses_what_is_no_host_and_port(text):
    with pytest.raises(ValueError, match="not host"):
        split_server(text)


def test_the_first_sampling_rule_that_fits_decides(from_yaml):
    waveforms = from_yaml(
        "waveforms:\n  sampling:\n"
        "    - {pattern: 'XX.A.*.GH?', mode: resample}\n"
        "    - {pattern: XX, mode: native}\n"
    ).waveforms
    modes = [
        waveforms.sampling_mode(Nslc.parse(text))
        for text in ("XX.A..GHZ", "XX.A..HHZ", "XX.B..GHZ", "CI.A..GHZ")
    ]
    assert modes == ["resample", "native", "native", "resample"]
