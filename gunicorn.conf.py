"""How gunicorn serves the function: the one way it starts, on a laptop and in a cluster."""

import os
import sys

import function.errors
import function.settings
import function.web.gunicorn_worker

try:
    _settings = function.settings.Settings.from_env(os.environ)
except function.errors.BadSetting as exc:
    sys.exit(f"vmledger: {exc}")

wsgi_app = "function:create_app()"
bind = f"0.0.0.0:{_settings.receiver.port}"
# Measured (make bench): requests spend their time waiting for one commit that they share, and greenlets wait cheaply.
worker_class = function.web.gunicorn_worker.Worker
post_fork = function.web.gunicorn_worker.starts
worker_exit = function.web.gunicorn_worker.ends
logger_class = function.web.gunicorn_worker.Logger
logger_class.level = _settings.receiver.log_level
# One for each core. Without a database each remembers for itself what it has applied and sent, so there is only one.
workers = _settings.receiver.workers or (2 if _settings.database.configured else 1)
# Connections of a worker; near this, the oldest that waits for its sender makes room for the next.
worker_connections = 512
# Longer than the idle time of a Broker's connections (Go: 90 s), so that it is not us who closes under a request.
keepalive = 95
# Above the longest wait for the database and a webhook, below the Service's timeoutSeconds.
timeout = 60
# What is in flight at SIGTERM may finish.
graceful_timeout = 20
# The worker's heartbeat file must not wait for a disk, and the root file system may be read-only.
worker_tmp_dir = "/dev/shm"
# No remote control of the server: nobody asked for it, and it writes into the home folder.
control_socket_disable = True
# A header is an attribute: a storage class list or a subject may be longer than the default of 8190 bytes.
# All together may have 128 KiB (function/web/heads.py).
limit_request_field_size = 65536 - 16
limit_request_fields = 200
# No header says who sends or by which scheme: nothing here asks for that, and a wrong one would refuse an event.
forwarded_allow_ips = ""
