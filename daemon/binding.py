"""Where the REST API may listen: beyond this machine only with TLS and tokens, or in a trusted network."""

from daemon.settings import Settings
from robot_bridge.addresses import is_loopback
from robot_bridge.errors import BindRefused
from robot_bridge.listening import Address
from storage import access_tokens
from storage.db import Database


def address_of(settings: Settings) -> Address:
    """The address of the REST API.

    Raises:
        TlsUnusable: certificate and key are not two files that fit.
    """
    address = Address(
        host=settings.host,
        port=settings.port,
        tls_certificate=settings.tls_cert_file,
        tls_key=settings.tls_key_file,
    )
    address.check_tls()
    return address


def require_locked(settings: Settings, database: Database) -> None:
    """Look before anything listens. That TLS is there has been seen by the settings already.

    Raises:
        BindRefused: others can reach the address, and there is no token that they could be asked for.
    """
    if settings.trust_network or is_loopback(settings.host):
        return
    with database.read() as session:
        if not access_tokens.any_in_force(session):
            missing = "a token (gymnastd token create)"
            raise BindRefused(thing="the REST API", missing=missing, host=settings.host)
