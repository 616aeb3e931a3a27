"""Maintenance mode of vCenter, mirrored over real HTTP to a suite-api that behaves as the real one."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import testing

from function import settings, wiring
from function.vsphere import operations
from tests import suite_api, vsphere

Send = Callable[..., tuple[int, str]]
ENTER, EXIT = vsphere.ENTER, vsphere.EXIT
PATIENCE = "1"


@pytest.fixture
def api() -> Iterator[suite_api.SuiteApi]:
    """A suite-api that monitors one vCenter with one host."""
    with suite_api.running() as running:
        running.host(vsphere.HOST, vsphere.MOREF, running.vcenter(vsphere.VCENTER, "UUID-1"))
        yield running


class Function:
    """The function over that suite-api."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.service = wiring.Service(settings.Settings.from_env(environ))
        self._client: testing.FlaskClient = self.service.app.test_client()

    def send(self, request: vsphere.Request) -> tuple[int, str]:
        """Send an event; return the status and the sentence."""
        answer = self._client.post("/", data=request[1], headers=request[0])
        return answer.status_code, json.loads(answer.get_data())["error"] if answer.get_data() else ""

    def enter(self, **changes: Any) -> tuple[int, str]:
        """Send that the host entered maintenance mode."""
        return self.send(vsphere.source(ENTER, vsphere.data(ENTER, **changes)))

    def exit(self, **changes: Any) -> tuple[int, str]:
        """Send that the host left it, later."""
        known = {"key": 600, "created": "2026-03-01T09:00:00Z", **changes}
        return self.send(vsphere.source(EXIT, vsphere.data(EXIT, **known)))


@pytest.fixture(params=["memory of the process", "database"])
def start(api: suite_api.SuiteApi, request: pytest.FixtureRequest) -> Iterator[Callable[..., Function]]:
    """Start the function over the suite-api, with and without a database."""
    database = {"DATABASE_URL": request.getfixturevalue("url")} if request.param == "database" else {}
    started = []

    def start(**environ: str) -> Function:
        known = {"VROPS_URL": api.url, "VROPS_USER": api.user, "VROPS_PASSWORD": api.password}
        started.append(Function({**known, "VROPS_TIMEOUT": PATIENCE, **database, **environ}))
        return started[-1]

    yield start
    for function in started:
        function.service.close()


@pytest.fixture
def plain(api: suite_api.SuiteApi) -> Iterator[Callable[..., Function]]:
    """Start the function without a database, where memory does not matter."""
    started = []

    def start(**environ: str) -> Function:
        known = {"VROPS_URL": api.url, "VROPS_USER": api.user, "VROPS_PASSWORD": api.password}
        started.append(Function({**known, "VROPS_TIMEOUT": PATIENCE, **environ}))
        return started[-1]

    yield start
    for function in started:
        function.service.close()


@pytest.mark.parametrize("name", sorted(path.stem for path in vsphere.SAMPLES.glob("*.json")))
def test_every_sample_does_what_it_says(api: suite_api.SuiteApi, plain: Callable[..., Function], name: str) -> None:
    """Enter marks, exit unmarks, a null host is 400, and every other event is 204 without a call."""
    action = json.loads((vsphere.SAMPLES / f"{name}.json").read_text())["action"]
    api.resources[0].state = "MAINTAINED_MANUAL" if action == "exit" else "STARTED"
    status, _ = plain().send(vsphere.sample(name))
    calls = {"enter": [f"PUT {vsphere.HOST}"], "exit": [f"DELETE {vsphere.HOST}"]}
    assert (status, api.acts()) == (400 if action == "400" else 204, calls.get(action, []))
    if action in (None, "400"):
        assert api.calls == []


def test_a_host_is_marked_without_limit_and_unmarked(api: suite_api.SuiteApi, start: Callable[..., Function]) -> None:
    """The published walk-through: STARTED, MAINTAINED_MANUAL, STARTED; one token for all of it, released at the end."""
    function = start()
    [host] = api.resources
    assert function.enter() == (204, "")
    assert (host.state, api.durations) == ("MAINTAINED_MANUAL", [None])
    assert function.exit() == (204, "")
    assert (host.state, api.logins(), len(api.tokens)) == ("STARTED", 1, 1)
    function.service.close()
    assert (api.tokens, api.calls[-1]) == ({}, "POST /auth/token/release")


def test_what_is_there_already_is_not_done_again(api: suite_api.SuiteApi, start: Callable[..., Function]) -> None:
    """The state is read first."""
    function = start()
    api.resources[0].state = "MAINTAINED_MANUAL"
    assert function.enter() == (204, "")
    api.resources[0].state = "STARTED"
    assert function.exit() == (204, "")
    assert api.acts() == []


def test_a_window_that_a_person_set_survives_both(api: suite_api.SuiteApi, start: Callable[..., Function]) -> None:
    """An enter does not replace it, an exit does not end it."""
    function = start()
    api.resources[0].state = "MAINTAINED"
    assert (function.enter(), function.exit(), api.acts()) == ((204, ""), (204, ""), [])


@pytest.mark.parametrize("environ", [{"VROPS_MAINTENANCE_MINUTES": "90"}, {"VROPS_UNMARK": "any"}])
def test_timed_windows_are_ended_on_request(
    api: suite_api.SuiteApi, plain: Callable[..., Function], environ: dict[str, str]
) -> None:
    """Where timed marks are ours, or VROPS_UNMARK=any."""
    function = plain(**environ)
    assert function.enter() == (204, "")
    assert api.durations == [environ.get("VROPS_MAINTENANCE_MINUTES")]
    api.resources[0].state = "MAINTAINED"
    assert function.exit() == (204, "")
    assert api.acts() == [f"PUT {vsphere.HOST}", f"DELETE {vsphere.HOST}"]


def test_the_state_is_the_resources_own(api: suite_api.SuiteApi, plain: Callable[..., Function]) -> None:
    """A search may show an older one; and where only the search shows it, that counts."""
    function = plain()
    api.index_is_old = True
    assert (function.enter(), function.exit()) == ((204, ""), (204, ""))
    assert api.acts() == [f"PUT {vsphere.HOST}", f"DELETE {vsphere.HOST}"]
    api.index_is_old = False
    api.fault = lambda call: (404, suite_api.HTML) if call == f"GET /resources/{api.resources[0].identifier}" else None
    api.resources[0].state = "MAINTAINED_MANUAL"
    assert function.exit(key=700) == (204, "")
    assert api.resources[0].state == "STARTED"


# --- order ---


def test_an_older_event_changes_nothing(api: suite_api.SuiteApi, start: Callable[..., Function]) -> None:
    """An enter that comes after the exit that followed it, and the other way round."""
    function = start()
    assert function.exit() == (204, "")
    assert function.enter() == (204, "")
    assert api.acts() == []
    assert function.enter(key=700, created="2026-03-01T10:00:00Z") == (204, "")
    assert function.exit(key=650, created="2026-03-01T09:59:00Z") == (204, "")
    assert api.acts() == [f"PUT {vsphere.HOST}"]


def test_a_duplicate_changes_nothing(api: suite_api.SuiteApi, start: Callable[..., Function]) -> None:
    """By source and Key: a replay of the router has a new id, and a person may have ended the mark meanwhile."""
    function = start()
    content = vsphere.data()
    assert function.send(vsphere.router(ENTER, content, id="first")) == (204, "")
    api.resources[0].state = "STARTED"
    assert function.send(vsphere.router(ENTER, content, id="second")) == (204, "")
    assert function.send(vsphere.source(ENTER, content, source="vc1.example:443")) == (204, "")
    assert api.acts() == [f"PUT {vsphere.HOST}"]


def test_what_failed_is_done_by_the_next_delivery(api: suite_api.SuiteApi, start: Callable[..., Function]) -> None:
    """Only what was applied is remembered."""
    function = start()
    api.fault = lambda call: (500, suite_api.HTML) if call.startswith("PUT") else None
    assert function.enter()[0] == 503
    api.fault = lambda _: None
    assert function.enter() == (204, "")
    assert api.resources[0].state == "MAINTAINED_MANUAL"


def test_hosts_are_remembered_one_by_one(api: suite_api.SuiteApi, start: Callable[..., Function]) -> None:
    """The newest event of one host says nothing about another."""
    api.host("esx8.rack.example", "host-78", next(iter(api.vcenters)))
    function = start()
    assert function.exit() == (204, "")
    assert function.enter(host=vsphere.named("esx8.rack.example", "host-78")) == (204, "")
    assert api.acts() == ["PUT esx8.rack.example"]


def test_a_batch_is_applied_in_its_order(api: suite_api.SuiteApi, plain: Callable[..., Function]) -> None:
    """Each event counts."""
    requests = [vsphere.router(ENTER, vsphere.data()), vsphere.router(EXIT, vsphere.data(key=600), id="2")]
    body = b"[" + b",".join(body for _, body in requests) + b"]"
    assert plain().send(({"Content-Type": "application/cloudevents-batch+json"}, body)) == (204, "")
    assert api.acts() == [f"PUT {vsphere.HOST}", f"DELETE {vsphere.HOST}"]


def test_two_pods_at_once_end_with_the_newest_event(api: suite_api.SuiteApi, url: str) -> None:
    """Enter and exit of one host, handled at the same time again and again, the older one slower."""
    known = {"VROPS_URL": api.url, "VROPS_USER": api.user, "VROPS_PASSWORD": api.password, "DATABASE_URL": url}
    pods = [Function(known), Function(known)]
    api.slow = lambda call: 0.05 if call.startswith(("PUT", "GET /adapters")) else 0.0
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for turn in range(6):
            begin = threading.Barrier(4)

            def send(number: int, turn: int = turn, begin: threading.Barrier = begin) -> int:
                begin.wait()
                created = f"2026-03-01T08:{turn:02}:0{number}Z"
                pod, key = pods[number % 2], turn * 10 + number
                call = pod.exit if number % 2 == turn % 2 else pod.enter
                return call(key=key, created=created)[0]

            assert set(pool.map(send, range(4))) == {204}
            newest_is_exit = turn % 2 == 1  # number 3 is the newest
            assert api.resources[0].state == ("STARTED" if newest_is_exit else "MAINTAINED_MANUAL")
    for pod in pods:
        pod.service.close()


def test_a_turn_that_died_is_free_again(api: suite_api.SuiteApi, url: str, query: Callable[..., Any]) -> None:
    """A pod that was killed holds a host until the time that it took is over, and 503 keeps the event."""
    function = Function(
        {"VROPS_URL": api.url, "VROPS_USER": api.user, "VROPS_PASSWORD": api.password, "DATABASE_URL": url}
        | {"VROPS_TIMEOUT": "0.3"}
    )
    insert = "INSERT INTO vsphere_turns VALUES (%s, 'a dead pod', now() + interval '1 hour')"
    query(insert, [vsphere.HOST])
    status, sentence = function.enter()
    assert (status, "is being handled" in sentence, api.acts()) == (503, True, [])
    query("UPDATE vsphere_turns SET until = now() - interval '1 second'")
    assert function.enter() == (204, "")
    assert query("SELECT count(*) FROM vsphere_turns") == [(0,)]
    assert query("SELECT host, action, event_key FROM vsphere_applied") == [(vsphere.HOST, "enter", "500")]
    function.service.close()


def test_a_database_that_is_down_keeps_the_event(api: suite_api.SuiteApi) -> None:
    """Without its memory nothing is touched."""
    function = Function(
        {"VROPS_URL": api.url, "VROPS_USER": api.user, "VROPS_PASSWORD": api.password}
        | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    )
    assert function.enter()[0] == 503
    assert api.acts() == []
    function.service.close()


# --- which host ---


def test_a_name_that_matches_in_part_is_not_the_host(api: suite_api.SuiteApi, plain: Callable[..., Function]) -> None:
    """The API finds esx1 in esx10 too; pages are read to the end."""
    adapter = next(iter(api.vcenters))
    for number in range(10, 20):
        api.host(f"esx{number}.lab", f"host-{number}", adapter)
    api.host("ESX1.lab", "host-1", adapter)
    api.page_size = 3
    assert plain().enter(host=vsphere.named("esx1", None))[0] == 422
    assert plain().enter(host=vsphere.named("esx1.lab", "host-1")) == (204, "")
    assert api.acts() == ["PUT ESX1.lab"]


@pytest.mark.parametrize("many", [1, 500])
def test_a_search_without_an_end_keeps_the_event(
    many: int, api: suite_api.SuiteApi, plain: Callable[..., Function], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ever new hosts, few or many in a page: 503, and nothing was touched."""
    monkeypatch.setattr(operations, "MOST_HOSTS", 1000)
    count = itertools.count()

    def page(call: str) -> suite_api.Reply | None:
        if not call.startswith("GET /adapterkinds"):
            return None
        found = [suite_api.Resource(f"h{next(count)}", None, None, "a").json() for _ in range(many)]
        return 200, {"resourceList": found, "pageInfo": {"totalCount": 10**9}}

    api.fault = page
    status, sentence = plain().enter()
    assert (status, "finds more than 1000 hosts for one name" in sentence, api.acts()) == (503, True, [])
    assert len(api.calls) < 20


@pytest.mark.parametrize(("name", "moref"), [("gone.example", "host-77"), (vsphere.HOST, "host-78")])
def test_a_host_that_is_not_there_is_refused(plain: Callable[..., Function], name: str, moref: str) -> None:
    """422, and a sentence that says which, and that the account may not see it."""
    status, sentence = plain().enter(host=vsphere.named(name, moref))
    assert status == 422
    assert name in sentence
    assert moref in sentence
    assert "scope" in sentence


@pytest.mark.parametrize("source", ["https://vc2.example/sdk", "vc2.example", "VC2.example:443"])
def test_the_vcenter_decides_between_twins(
    api: suite_api.SuiteApi, plain: Callable[..., Function], source: str
) -> None:
    """Name and managed object id repeat across vCenters; the adapters say which is which."""
    twin = api.host(vsphere.HOST, vsphere.MOREF, api.vcenter("https://vc2.example/sdk", "uuid-2"))
    assert plain().send(vsphere.source(ENTER, vsphere.data(), source=source)) == (204, "")
    assert (twin.state, api.resources[0].state) == ("MAINTAINED_MANUAL", "STARTED")


def test_twins_of_an_unknown_vcenter_are_not_touched(api: suite_api.SuiteApi, plain: Callable[..., Function]) -> None:
    """422, and the setting that helps."""
    api.host(vsphere.HOST, vsphere.MOREF, api.vcenter("10.0.0.2", "uuid-2"))
    request = vsphere.source(ENTER, vsphere.data(), source="vc2.example")
    status, sentence = plain().send(request)
    assert (status, "2 hosts" in sentence, "VROPS_VCENTER_UUID" in sentence) == (422, True, True)
    assert api.acts() == []
    assert plain(VROPS_VCENTER_UUID="Uuid-2").send(request) == (204, "")
    assert [resource.state for resource in api.resources] == ["STARTED", "MAINTAINED_MANUAL"]


@pytest.mark.parametrize("source", ["vc2.example", "vc3.example"])
def test_the_only_host_of_that_name_may_be_another_vcenters(
    api: suite_api.SuiteApi, plain: Callable[..., Function], source: str
) -> None:
    """Where several are monitored, and where ours shows no such host or is none of them: 422, nothing is touched."""
    api.vcenter("vc2.example", "uuid-2")
    assert plain().send(vsphere.source(ENTER, vsphere.data(), source=source))[0] == 422
    assert api.acts() == []


def test_one_vcenter_may_have_another_name_here(api: suite_api.SuiteApi, plain: Callable[..., Function]) -> None:
    """Operations may know it by its address; with only one there is no doubt."""
    assert plain().send(vsphere.source(ENTER, vsphere.data(), source="10.0.0.1")) == (204, "")
    assert api.acts() == [f"PUT {vsphere.HOST}"]


def test_a_host_without_a_vcenters_uuid_is_known_by_its_adapter(
    api: suite_api.SuiteApi, plain: Callable[..., Function]
) -> None:
    """An adapter that has not collected yet has no VMEntityVCID."""
    twin = api.host(vsphere.HOST, vsphere.MOREF, api.vcenter("vc2.example"))
    assert plain().send(vsphere.source(ENTER, vsphere.data(), source="vc2.example")) == (204, "")
    assert (twin.state, api.resources[0].state) == ("MAINTAINED_MANUAL", "STARTED")


def test_the_vcenter_that_is_set_is_known_by_its_adapter_too(
    api: suite_api.SuiteApi, plain: Callable[..., Function]
) -> None:
    """VROPS_VCENTER_UUID, where hosts do not say their vCenter."""
    twin = api.host(vsphere.HOST, vsphere.MOREF, api.vcenter("10.0.0.2", "uuid-2"), vcid=None)
    assert plain(VROPS_VCENTER_UUID="uuid-3").enter()[0] == 422
    assert plain(VROPS_VCENTER_UUID="uuid-2").enter() == (204, "")
    assert (twin.state, api.resources[0].state) == ("MAINTAINED_MANUAL", "STARTED")


@pytest.mark.parametrize("source", ["fd00::2", "[fd00::2]:443", "https://[fd00::2]/sdk"])
@pytest.mark.parametrize("url", ["fd00::2", "https://[FD00::2]/sdk"])
def test_addresses_tell_vcenters_apart(
    api: suite_api.SuiteApi, plain: Callable[..., Function], source: str, url: str
) -> None:
    """Of IPv6 too, whose colons begin no port."""
    api.vcenters = dict.fromkeys(api.vcenters, ("fd00::1", "UUID-1"))
    request = vsphere.source(ENTER, vsphere.data(), source=source)
    twin = api.host("other.example", vsphere.MOREF, api.vcenter(url, "uuid-2"))
    assert plain().send(request)[0] == 422
    twin.name = vsphere.HOST
    assert plain().send(request) == (204, "")
    assert (twin.state, api.resources[0].state) == ("MAINTAINED_MANUAL", "STARTED")


# --- the client ---


def test_an_expired_token_is_renewed(api: suite_api.SuiteApi, plain: Callable[..., Function]) -> None:
    """On 401, once for a call; in a pod that was warm for days."""
    function = plain()
    assert function.enter() == (204, "")
    api.tokens.clear()
    assert function.exit() == (204, "")
    assert api.logins() == 2


def test_a_token_that_lasts_for_one_call_is_enough(api: suite_api.SuiteApi, plain: Callable[..., Function]) -> None:
    """Each call may renew it."""
    api.token_uses = 1
    assert plain().enter() == (204, "")
    assert (api.acts(), api.logins()) == ([f"PUT {vsphere.HOST}"] * 2, 4)


def test_a_scheme_that_is_refused_is_tried_twice_only(api: suite_api.SuiteApi, plain: Callable[..., Function]) -> None:
    """The 401 is HTML; a fresh token that is refused is no reason for a third."""
    api.schemes = {"opstoken"}
    function = plain()
    assert function.enter()[0] == 503
    assert api.logins() == 2
    status, sentence = function.enter()
    assert (status, "VROPS_TOKEN_SCHEME" in sentence) == (422, True)
    assert plain(VROPS_TOKEN_SCHEME="OpsToken").enter() == (204, "")


@pytest.mark.parametrize("page", [suite_api.HTML, {"message": "no", "httpStatusCode": 403}])
@pytest.mark.parametrize(
    "call", ["POST /auth/token/acquire", "GET /adapterkinds", "GET /adapters?", "GET /resources", "PUT /resources"]
)
def test_what_is_forbidden_is_refused(
    api: suite_api.SuiteApi, plain: Callable[..., Function], call: str, page: Any
) -> None:
    """403 with a page or JSON: 422 with a sentence, and no second login."""
    api.fault = lambda asked: (403, page) if asked.startswith(call) else None
    status, sentence = plain().enter()
    assert (status, "403" in sentence, api.logins()) == (422, True, 1)


@pytest.mark.parametrize("answer", [(500, suite_api.HTML), (503, ""), (429, {}), (502, "x"), (200, suite_api.HTML)])
@pytest.mark.parametrize("call", ["POST /auth/token/acquire", "GET /adapterkinds", "GET /adapters?", "GET /resources"])
def test_trouble_of_operations_keeps_the_event(
    api: suite_api.SuiteApi, plain: Callable[..., Function], call: str, answer: suite_api.Reply
) -> None:
    """5xx, 429, and a page where JSON should be: 503, every time; 204 again when it is over."""
    api.fault = lambda asked: answer if asked.startswith(call) else None
    function = plain()
    assert [function.enter()[0] for _ in range(3)] == [503] * 3
    assert "operations" in function.service.states()
    api.fault = lambda _: None
    assert function.enter() == (204, "")
    assert function.service.states()["operations"] == "ok"


@pytest.mark.parametrize("status", [301, 302, 400, 404, 405, 415])
def test_other_answers_are_refused(api: suite_api.SuiteApi, plain: Callable[..., Function], status: int) -> None:
    """They will be the same the next time; the status is in the sentence."""
    api.fault = lambda asked: (status, suite_api.HTML) if asked.startswith("PUT") else None
    answered, sentence = plain().enter()
    assert (answered, str(status) in sentence) == (422, True)


def test_a_wrong_password_is_for_now_once(
    api: suite_api.SuiteApi, plain: Callable[..., Function], caplog: pytest.LogCaptureFixture
) -> None:
    """503, then 422 for each further event; no log or answer holds it; right again, it works."""
    caplog.set_level(logging.DEBUG)
    function = plain(VROPS_PASSWORD="wr0ng$secret")
    answers = [function.enter() for _ in range(3)]
    assert [status for status, _ in answers] == [503, 422, 422]
    assert "wr0ng" not in f"{answers} {caplog.text} {[record.__dict__ for record in caplog.records]}"
    assert function.service.states()["operations"] == answers[-1][1]
    api.password = "wr0ng$secret"
    assert function.enter() == (204, "")


def test_no_token_is_logged(
    api: suite_api.SuiteApi, plain: Callable[..., Function], caplog: pytest.LogCaptureFixture
) -> None:
    """At any level, also not when the API itself quotes it."""
    caplog.set_level(logging.DEBUG)
    function = plain()
    assert function.enter() == (204, "")
    [token] = api.tokens
    api.tokens.clear()
    api.password = "changed"
    _, sentence = function.exit()
    assert token not in f"{sentence} {caplog.text} {[record.__dict__ for record in caplog.records]}"
    assert suite_api.PASSWORD not in caplog.text


def test_the_source_of_the_user_is_named(api: suite_api.SuiteApi, plain: Callable[..., Function]) -> None:
    """VROPS_AUTH_SOURCE."""
    api.auth_source = "corp.example"
    assert plain(VROPS_AUTH_SOURCE="elsewhere").enter()[0] == 503
    assert plain(VROPS_AUTH_SOURCE="corp.example").enter() == (204, "")


def test_many_events_at_once_share_one_login(api: suite_api.SuiteApi, plain: Callable[..., Function]) -> None:
    """The first acquires the token, the others wait for it."""
    adapter = next(iter(api.vcenters))
    hosts = [api.host(f"h{number}.example", f"host-{number}", adapter) for number in range(8)]
    api.slow = lambda call: 0.2 if "acquire" in call else 0.0
    function = plain()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        sent = pool.map(lambda host: function.enter(host=vsphere.named(host.name, host.moref))[0], hosts)
    assert (set(sent), api.logins(), len(api.acts())) == ({204}, 1, 8)


@pytest.mark.parametrize("how", ["silent", "drips", "refuses"])
def test_every_call_is_bounded(api: suite_api.SuiteApi, plain: Callable[..., Function], how: str) -> None:
    """VROPS_TIMEOUT, whatever the other end does: 503."""
    if how == "silent":
        api.slow = lambda _: 6.0
    elif how == "drips":
        api.drip = 0.1
    environ = {"VROPS_URL": "http://127.0.0.1:1"} if how == "refuses" else {}
    function = plain(**environ, VROPS_TIMEOUT="0.4")
    started = time.monotonic()
    status, sentence = function.enter()
    assert (status, time.monotonic() - started < 5) == (503, True)
    assert "Operations" in sentence
    assert "127.0.0.1" not in sentence


def test_nothing_is_taken_from_the_environment(
    api: suite_api.SuiteApi, plain: Callable[..., Function], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """No netrc takes the token's place, no proxy sees it."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert plain().enter() == (204, "")


def test_without_operations_the_event_is_refused() -> None:
    """422 and the settings that are missing; what is not an event of maintenance mode is still 204."""
    function = Function({})
    status, sentence = function.enter()
    assert (status, "VROPS_URL" in sentence) == (422, True)
    assert function.send(vsphere.sample("powered-off")) == (204, "")
    assert function.service.states()["operations"] == "not configured"
