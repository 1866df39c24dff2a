"""Kinds of settings: what a value must be, and the form that it is kept in."""

import re
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator

from daemon.events.hooks import Webhook

MAX_PORT = 65535
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def http_address(url: str) -> str:
    """An address without a password, and without a slash at its end."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("expected an address like http://127.0.0.1:8401")
    if parts.username is not None:
        raise ValueError("expected an address without a password in it")
    return url.rstrip("/")


def http_addresses(urls: str) -> str:
    """Addresses, each once, separated by commas."""
    found = [http_address(url.strip()) for url in urls.split(",")]
    if len(set(found)) != len(found):
        raise ValueError("expected each station once")
    return ",".join(found)


def host_and_port(bind: str) -> str:
    host, _, port = bind.rpartition(":")
    if not host or not port.isdigit() or int(port) > MAX_PORT:
        raise ValueError("expected host:port, like 127.0.0.1:8402")
    return bind


def log_level(level: str) -> str:
    if level.upper() not in LOG_LEVELS:
        raise ValueError("expected DEBUG, INFO, WARNING or ERROR")
    return level.upper()


def device_names(names: str) -> str:
    """Accelerators as CUDA_VISIBLE_DEVICES names them, separated by commas; "" for none."""
    found = [name.strip() for name in names.split(",")]
    if names.strip() and not all(re.fullmatch(r"[A-Za-z0-9_./-]+", name) for name in found):
        raise ValueError(f"expected devices like 0,1 or GPU-8f1c…,GPU-92ab…, found {names!r}")
    return ",".join(found)


def each_once(hooks: tuple[Webhook, ...]) -> tuple[Webhook, ...]:
    if len({hook.name for hook in hooks}) != len(hooks):
        raise ValueError("expected each webhook's name once")
    return hooks


HttpAddress: TypeAlias = Annotated[str, AfterValidator(http_address)]
HttpAddresses: TypeAlias = Annotated[str, AfterValidator(http_addresses)]
HostAndPort: TypeAlias = Annotated[str, AfterValidator(host_and_port)]
LogLevel: TypeAlias = Annotated[str, AfterValidator(log_level)]
DeviceNames: TypeAlias = Annotated[str, AfterValidator(device_names)]
WebhookList: TypeAlias = Annotated[tuple[Webhook, ...], AfterValidator(each_once)]
