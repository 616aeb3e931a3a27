"""How gunicorn serves the function: the one way it starts, on a laptop and in a cluster."""

import os
import sys

import function.errors
import function.settings
import function.web.gunicorn_logger
import function.web.gunicorn_worker

try:
    _settings = function.settings.Settings.from_env(os.environ)
except function.errors.BadSetting as exc:
    sys.exit(f"vmledger: {exc}")

wsgi_app = "function:create_app()"
bind = f"0.0.0.0:{_settings.receiver.port}"
# Requests spend most of their time waiting for one commit that they share, and a greenlet waits cheaply: with threads,
# each of the 512 connections would need a stack and a native thread.
worker_class = function.web.gunicorn_worker.Worker
worker_exit = function.web.gunicorn_worker.ends
logger_class = function.web.gunicorn_logger.Logger
logger_class.level = _settings.receiver.log_level
# Without a database a worker remembers by itself which events it has applied and which notices it has sent, and another
# worker would apply or send them again. So there is only one.
workers = _settings.receiver.workers or (2 if _settings.database.configured else 1)
# Connections of a worker; near this, the oldest idle one is closed to make room for the next.
worker_connections = 512
# Longer than a Broker keeps an idle connection (Go: 90 s), so that a request never meets a connection that we close.
keepalive = 95
# Seconds after which a worker that does not answer its heartbeat is killed: longer than the longest wait for the
# database and a webhook, shorter than the Service's timeoutSeconds.
timeout = 60
# Seconds for requests that are in flight at SIGTERM.
graceful_timeout = 20
# The worker's heartbeat file must not wait for a disk, and the root file system may be read-only.
worker_tmp_dir = "/dev/shm"
# No control socket: nothing uses it, and it is a file in the home folder, which may be read-only.
control_socket_disable = True
# Its parser in Python, also where the one in C is installed: that one refuses a request line that is too long only once
# it has ended (docs/performance.md).
http_parser = "python"
# A header is an attribute: a list of storage classes or a subject may be longer than the default of 8190 bytes.
# All headers together may have 128 KiB (function/web/heads.py).
limit_request_field_size = 65536 - 16
limit_request_fields = 200
# Trust no header about the client or the scheme: nothing here needs them, and gunicorn refuses a contradictory one.
forwarded_allow_ips = ""

if _settings.metrics.port:
    import function.web.gunicorn_metrics

    _metrics = function.web.gunicorn_metrics.master(_settings, function.__version__)
    on_starting = _metrics.on_starting
    when_ready = _metrics.when_ready
    child_exit = _metrics.child_exit
    on_exit = _metrics.on_exit


def post_fork(arbiter: object, worker: object) -> None:
    """Begin a worker."""
    function.web.gunicorn_worker.starts(arbiter, worker)
    if _settings.metrics.port:
        _metrics.post_fork(arbiter, worker)
