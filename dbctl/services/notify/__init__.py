"""Notifications: pings, push messages, requests and e-mail about failed, overdue and recovered jobs."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.notify.check import ProblemsSent, send_problems
    from dbctl.services.notify.notice import Attachment
    from dbctl.services.notify.observer import RunNotifier, observe_run
    from dbctl.services.notify.summary import select_apps, send_summary
    from dbctl.services.notify.trial import ChannelTest, ChannelTests, send_tests
