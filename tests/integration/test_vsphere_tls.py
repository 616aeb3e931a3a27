"""TLS to Operations: verified by default, by a CA of one's own, or not at all where somebody says so."""

from __future__ import annotations

import pathlib
import ssl
from collections.abc import Iterator

import pytest

from function import settings, wiring
from tests import certificates, suite_api, vsphere


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A certificate that signed itself, as appliances have, with its key in the same file."""
    return certificates.made(tmp_path_factory.mktemp("tls"), "DNS:localhost")


@pytest.fixture
def api(certificate: pathlib.Path) -> Iterator[suite_api.SuiteApi]:
    """A suite-api over TLS."""
    with suite_api.running(certificate) as running:
        running.host(vsphere.HOST, vsphere.MOREF, running.vcenter(vsphere.VCENTER, "uuid-1"))
        yield running


def enter(api: suite_api.SuiteApi, **environ: str) -> tuple[int, str]:
    """Send that a host entered maintenance mode; return the status and the answer."""
    known = {"vropsFqdn": f"localhost:{api.port}", "vropsUser": api.user, "vropsPassword": api.password}
    built = wiring.Service(settings.Settings.from_env({**known, **environ}))
    headers, body = vsphere.sample("source-0.39-enter")
    answer = built.app.test_client().post("/", data=body, headers=headers)
    built.close()
    return answer.status_code, answer.get_data(as_text=True)


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(api: suite_api.SuiteApi) -> None:
    """503 with the setting that helps; the password was not sent."""
    status, sentence = enter(api)
    assert (status, "VROPS_CA_FILE" in sentence, api.calls) == (503, True, [])


def test_a_ca_file_vouches_for_it(
    api: suite_api.SuiteApi, certificate: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And variables of requests do not change what was set."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    assert enter(api, VROPS_CA_FILE=str(certificate)) == (204, "")


def test_it_can_be_left_unverified(api: suite_api.SuiteApi, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so at each start."""
    assert enter(api, VROPS_INSECURE="true") == (204, "")
    assert [record.levelname for record in caplog.records if "VROPS_INSECURE" in record.message] == ["WARNING"]


def test_a_certificate_for_another_name_is_not_trusted(api: suite_api.SuiteApi, certificate: pathlib.Path) -> None:
    """The name is checked as well."""
    environ = {"VROPS_CA_FILE": str(certificate), "vropsFqdn": f"127.0.0.1:{api.port}"}
    assert enter(api, **environ)[0] == 503
    assert api.calls == []


def test_a_port_without_tls_is_said_to_be_so() -> None:
    """503, in one sentence of ours."""
    with suite_api.running() as api:
        status, sentence = enter(api)
    assert (status, "TLS" in sentence) == (503, True)


def test_the_file_is_a_certificate(certificate: pathlib.Path) -> None:
    """What the tests above stand on."""
    assert ssl.create_default_context(cafile=str(certificate)).get_ca_certs()
