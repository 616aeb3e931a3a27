"""gunicorn's configuration for the page; ``python -m function page`` starts gunicorn with it.

Threads, because a list that somebody takes away slowly must not keep everybody else waiting; they share the worker's
one connection to Postgres, so the page takes PAGE_WORKERS connections however many people look.
"""

import os

import function.settings
import function.web.gunicorn_logger

_settings = function.settings.Settings.from_env(os.environ)

wsgi_app = "function.page.app:from_environ()"
bind = _settings.page.address
workers = _settings.page.workers
worker_class = "gthread"
threads = 8
logger_class = function.web.gunicorn_logger.Logger
logger_class.level = _settings.receiver.log_level
proc_name = "vmledger-page"
# Longer than all statements of a request may take.
timeout = 30
graceful_timeout = 10
keepalive = 5
limit_request_line = 8190
worker_tmp_dir = "/dev/shm"
control_socket_disable = True
forwarded_allow_ips = ""
