"""Keeps secrets out of what is written down: those that this process was given, and what looks like one."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from daemon.settings import Settings

INSTEAD = "[redacted]"
SHORTEST = 6  # characters; anything shorter would blank out ordinary words
TRACE_HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
OTHERS_KEYS = ("WANDB_API_KEY",)
PATTERNS = (
    re.compile(r"(gmd_[0-9a-f]{16}_|gst_)[\w-]{20,}"),  # tokens of the API and of a station, bare
    re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{6,}"),
    re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?)(?!bearer\b)[^\s'\",}]+(?:\s+[^\s'\",}]+)?"),
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]+:)[^\s/@]+(?=@)"),
    re.compile(r"(?i)(\b(?:api[_-]?key|token|password|secret)['\"]?\s*[:=]\s*['\"]?)[^\s'\",}]{6,}"),
)


class Redactor:
    """What every text goes through before it is written: log lines, and errors that are stored."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({one for one in secrets if len(one) >= SHORTEST}, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """The text without any known secret, and without what looks like one."""
        for secret in self._secrets:
            text = text.replace(secret, INSTEAD)
        for pattern in PATTERNS:
            text = pattern.sub(lambda found: found.group(1) + INSTEAD, text)
        return text


def redactor_of(settings: Settings) -> Redactor:
    """One that knows the secrets of these settings as their files hold them now."""
    return Redactor(secrets_of(settings))


def secrets_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Every secret that the settings hold or name a file of, and the keys of whoever gets traces or curves.

    Files that cannot be read hold none.
    """
    files = [settings.station_token_file, settings.judge_key_file, settings.database_password_file]
    files += [hook.secret_file for hook in settings.webhooks]
    found = [line for file in files if file is not None for line in _lines(file)]
    found += [hook.url for hook in settings.webhooks]
    found += [environ[name] for name in OTHERS_KEYS if environ.get(name)]
    found += [key for name in TRACE_HEADERS for key in _keys(environ.get(name, ""))]
    password = urlsplit(settings.database_url or "").password
    return [*found, password] if password else found


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        return []


def _keys(headers: str) -> list[str]:
    """What headers hold, given as `name=value,name=value`, values quoted as in URLs."""
    values = [header.partition("=")[2].strip() for header in headers.split(",")]
    return [key for value in values if value for key in (value, unquote(value), *unquote(value).split()[-1:])]
