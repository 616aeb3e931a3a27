"""Metrics for Prometheus: who records them, what the ledger adds, and the page ``/metrics``.

Loaded only where METRICS_PORT is set. Under gunicorn the workers count in files of a folder, and the master shows the
sum; :mod:`function.web.gunicorn_metrics` starts both. Another process shows its own: :mod:`function.metrics.command`.

gunicorn forks its workers from the master, and gevent replaces the threads in a worker only. So nothing here imports a
module that keeps values for each thread, such as :mod:`function.clients.deadline`: a worker that inherited it would
share them among all its requests. A test holds this room to it.
"""
