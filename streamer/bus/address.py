"""Which Redis server a configuration names."""

from streamer.bus.broker import BrokerConfig
from streamer.bus.redis_url import EMBEDDED_URL, RedisServer, parse_redis_url
from streamer.config import Config


def server_address(config: Config) -> RedisServer:
    """Address and login of the server, for those who only read: nothing is started or asked.

    Raises ConfigError and AccessDeniedError.
    """
    if config.redis.url == EMBEDDED_URL:
        return broker_config(config).address
    return parse_redis_url(config.redis.url, password_file=config.redis.password_file)


def broker_config(config: Config) -> BrokerConfig:
    """How to run the embedded broker of a configuration."""
    return BrokerConfig(
        state_dir=config.state_dir,
        durability=config.redis.embedded.durability,
        port=config.redis.embedded.port,
        maxmemory_mb=config.redis.embedded.maxmemory_mb,
        prefix=config.redis.prefix,
        socket=config.redis.embedded.socket,
    )
