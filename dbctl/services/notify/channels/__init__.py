"""Channels: services and servers that receive notices."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.notify.channels.base import Channel, SendFailedError, create_channels
    from dbctl.services.notify.channels.ping import Ping
