"""The page over the ledger: what a browser asks, read from Postgres and written as HTML.

A process of its own beside the receiver (``python -m function page``), so that a person's query never waits before an
event. It only reads, as a role that may only read, and nothing of it is imported by the receiver.

=================  =====================================================================================
``server.py``      gunicorn's configuration for the page; ``python -m function page`` starts it
``app.py``         the HTTP edge: every view's route, security headers, errors as pages
``views.py``       what a view is: :class:`views.View`, and :class:`views.Request` that it is asked with
``takeaway.py``    a view as a list, in CSV and JSON, sent while it is read
``database.py``    the worker's one connection: transactions that only read, 5 s for a statement
``moment.py``      ``at=``: the moment that a page shows
``query.py``       the words of a query string, bounded
``wording.py``     values as people read them: sizes, times, statuses; Jinja filters
``sql/``           each view's statements, whole (:mod:`function.clients.statements`)
``templates/``     ``layout.html`` and a template for each view
``static/``        one style sheet, and one script that only makes it quicker
=================  =====================================================================================

A view is a module with a ``VIEW``: it turns a request into the variables of its template.
To add one: write ``function/page/NAME.py``, ``sql/NAME.sql`` and ``templates/NAME.html`` (it extends ``layout.html``),
and name the module in ``app.VIEWS``. The route, the menu, ``at=``, the freshness line and the browser's tests follow.

Plans are made with the values of each call (``plan_cache_mode``), so ``$1::text IS NULL OR cluster = $1`` costs nothing
where nothing was asked for: a statement stands whole, and its filters are parameters.
"""
