"""The settings of scaling."""

from __future__ import annotations

import pytest

from function import errors, settings


def read(**environ: str) -> settings.Settings:
    """Read settings."""
    return settings.Settings.from_env(environ)


def test_lists_are_separated_by_commas() -> None:
    """Blanks and empty parts are nothing."""
    assert read(HPA_REASONS=" A, B,,C ").scaling.reasons == ("A", "B", "C")
    assert read(WEBHOOK_ALLOWED_HOSTS="*.Example.com, [::1], 10.0.0.1/8").webhooks.allowed_hosts == (
        "*.example.com",
        "::1",
        "10.0.0.1/8",
    )


def test_the_defaults_are_the_issues() -> None:
    """What notifies, how often, how late, and how long a webhook may take."""
    configuration = read()
    assert configuration.scaling.reasons == ("SuccessfulRescale", "FailedRescale")
    assert (configuration.scaling.throttle, configuration.scaling.max_age, configuration.webhooks.timeout) == (
        None,
        3600,
        10.0,
    )
    assert (configuration.scaling.annotation, configuration.scaling.secret_namespaces) == ("hpa-event", ())


def test_a_kubernetes_api_is_there_in_a_pod_and_by_kubeconfig() -> None:
    """Then scaling is on."""
    assert [
        each.kubernetes.configured for each in (read(), read(KUBERNETES_SERVICE_HOST="10.96.0.1"), read(KUBECONFIG="x"))
    ] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HPA_THROTTLE", "10m"),
        ("HPA_THROTTLE", "-1"),
        ("HPA_MAX_AGE", "1h"),
        ("HPA_ANNOTATION", "two words"),
        ("HPA_SECRET_NAMESPACES", "a/b"),
        ("HPA_SECRET_NAMESPACES", "Upper"),
        ("WEBHOOK_TIMEOUT", "0.01"),
        ("WEBHOOK_TIMEOUT", "3600"),
        ("WEBHOOK_TIMEOUT", "nan"),
        ("WEBHOOK_CA_FILE", "/nowhere"),
        ("WEBHOOK_CA_FILE", __file__),
        ("WEBHOOK_DENIED_HOSTS", "http://a.example"),
        ("WEBHOOK_ALLOWED_HOSTS", "10.0.0.0/99"),
        ("KUBERNETES_SERVICE_PORT", "tcp://10.96.0.1:443"),
    ],
)
def test_a_bad_setting_stops_the_start_with_its_name_and_not_its_value(name: str, value: str) -> None:
    """One line."""
    with pytest.raises(errors.BadSetting) as caught:
        read(**{name: value})
    assert str(caught.value).startswith(f"{name} ")
    assert value not in str(caught.value)
