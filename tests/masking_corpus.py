"""What the echo must mask, and what it need not: one payload each, as somebody's events, logs and files have them.

Each payload of ``SECRETS`` holds :data:`SECRET`, in the clear or encoded, or a key of which :data:`PIECES` are a part.
Nothing in it is anybody's: keys and tokens are made up, or made for this file.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

SECRET = "zebra7Quartz"
"""Stands for each secret: nothing about it looks like one."""


def encoded(text: str | bytes) -> str:
    """Return base64."""
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def packed(text: str) -> bytes:
    """Return gzip."""
    return gzip.compress(text.encode(), mtime=0)


def wrapped(text: str, width: int = 76) -> str:
    """Return text in lines, as MIME and PEM have it."""
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


def json_(**members: Any) -> str:
    """Return a JSON object."""
    return json.dumps(members)


_NAMES = (
    *("password", "Password", "adminPassword", "ROOT_PASSWORD", "db.password", "db-password", "passwd", "passphrase"),
    *("pwd", "PWD", "dbPwd", "pass", "DB_PASS", "smtpPass", "secret", "client_secret", "clientSecret", "CLIENT-SECRET"),
    *("secretString", "secret_id", "token", "access_token", "refreshToken", "idToken", "X-Auth-Token", "csrfToken"),
    *("apiKey", "api_key", "apikey", "x-api-key", "X-API-Key", "privateKey", "private_key", "accessKey", "accountKey"),
    *("AccountKey", "sharedAccessKey", "storageKey", "signingKey", "encryptionKey", "masterKey", "licenseKey"),
    *("connectionString", "connection_string", "ConnectionString", "conn_str", "aws_secret_access_key"),
    *("AWS_SECRET_ACCESS_KEY", "SecretAccessKey", "awsAccessKeyId", "AWS_SESSION_TOKEN", "sessionId", "session_id"),
    *("JSESSIONID", "Cookie", "Set-Cookie", "Authorization", "Proxy-Authorization", "dockerconfigjson"),
    *(".dockerconfigjson", ".dockercfg", "DOCKER_AUTH_CONFIG", "identitytoken", "registrytoken", "auth", "credential"),
    *("credentials", "creds", "userData", "userDataBase64", "networkData", "vendorData", "guestinfo.userdata"),
    *("guestinfo.metadata", "guestinfo.ignition.config.data", "guestinfo.talos.config", "guestinfo.coreos.config.data"),
    *("kubevirt.io/ignitiondata", "kubectl.kubernetes.io/last-applied-configuration", "encryption.bundle", "psk"),
    *("client-key-data", "tls.key", "ssh-privatekey", "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token"),
    *("bindPassword", "keystorePass", "hashed_passwd", "passcode", "unsealKey", "ProductKey", "snmpCommunity", "dsn"),
)

_CLOUD_CONFIG = f"#cloud-config\nchpasswd:\n  list: |\n    root:{SECRET}\nusers:\n- name: core\n"
_IGNITION = json.dumps(
    {
        "ignition": {"version": "3.4.0"},
        "storage": {"files": [{"path": "/etc/motd", "contents": {"source": f"data:,{SECRET}"}}]},
    }
)
_PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIBbD+HTSFhjtGOX/uzb1g4NgBFymsFbVtGWD0qlNwEZw\n"
    "-----END PRIVATE KEY-----\n"
)
_RSA = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    "MIICWwIBAAKBgQDSe+fJbDbXp0M61h6o632s/UWVBbXzJ1zQyRjlBWmPzgUwNpFz\n"
    "-----END RSA PRIVATE KEY-----"
)
_DER = "MC4CAQAwBQYDK2VwBCIEIBbD+HTSFhjtGOX/uzb1g4NgBFymsFbVtGWD0qlNwEZw"
_JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJsYWItMDAxIiwiaWF0IjoxNzAwMDAwMDAwfQ"
    ".c2lnbmF0dXJlLW9mLXRoZS1sYWItMDAx"
)
PIECES = (SECRET, "BbD+HTSFhjtGOX", "KBgQDSe+fJbDbX", "c2lnbmF0dXJlLW9mLXRoZS1sYWItMDAx", "LAB0000000000000")
"""What must not be in any line: the secret, and a part of each key and token that cannot hold it."""

_K8S_SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "db", "namespace": "lab"},
    "data": {"user": encoded(SECRET)},
    "stringData": {"host": SECRET},
}
_YAML_SECRET = (
    "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n"
    f"data:\n  user: {encoded(SECRET)}\nstringData:\n  a: {SECRET}\n"
)


def _element(name: str) -> str:
    return f"<a><{name}>{SECRET}</{name}></a>"


def _secret_of_kind(kind: str) -> str:
    return json.dumps({**_K8S_SECRET, "kind": kind})


SECRETS: dict[str, str | bytes] = {
    **{f"JSON member {name}": json_(deep=[{name: SECRET, "other": 1}]) for name in _NAMES},
    **{f"assignment {name}": f"started with {name}={SECRET} at once" for name in _NAMES},
    **{f"YAML line {name}": f"spec:\n  {name}: {SECRET} and {SECRET}\n  other: 1\n" for name in _NAMES},
    **{f"pair {name}": json_(env=[{"name": name, "value": SECRET}]) for name in _NAMES},
    **{f"XML element {name}": _element(name.strip(".").replace("/", ".")) for name in _NAMES},
    # Kubernetes
    "Secret": json.dumps(_K8S_SECRET),
    **{f"Secret of kind {kind}": _secret_of_kind(kind) for kind in ("secret", "SECRET", "sEcret", "Secret ")},
    "Secret without its kind, by its type": json_(type="Opaque", data={"a": SECRET}),
    "TLS Secret by its type": json_(type="kubernetes.io/tls", data={"a": SECRET}),
    "Secret in capitals throughout": json_(Kind="SECRET", Data={"a": SECRET}, StringData={"b": SECRET}),
    "SecretList": json_(kind="SecretList", items=[{"metadata": {"name": "a"}, "data": {"user": SECRET}}]),
    "List of Secrets": json_(kind="List", items=[_K8S_SECRET]),
    "watch event of a Secret": json_(type="ADDED", object=_K8S_SECRET),
    "Secret as text": json_(annotation=json.dumps(_K8S_SECRET)),
    "Secret in YAML": _YAML_SECRET,
    "Secret in YAML, lower case": _YAML_SECRET.replace("kind: Secret", "kind: secret"),
    "Secret in YAML, quoted kind": _YAML_SECRET.replace("kind: Secret", 'kind: "Secret" # it is'),
    "Secret in YAML, kind last": f"data:\n  user: {SECRET}\nkind: Secret\n",
    "Secret in YAML, flow": f"{{apiVersion: v1, kind: Secret, data: {{user: {SECRET}}}}}",
    "Secret in YAML, second document": f"kind: ConfigMap\ndata:\n  a: b\n---\n{_YAML_SECRET}",
    "Secret in YAML with Windows' line ends": _YAML_SECRET.replace("\n", "\r\n"),
    "Secret in a YAML list": f"items:\n- data:\n    a: {SECRET}\n  kind: Secret\n",
    "environment in YAML": f"env:\n- name: DB_PASSWORD\n  value: {SECRET}\n- name: B\n  value: b\n",
    "environment in YAML, value first": f"env:\n- value: {SECRET}\n  name: DB_PASSWORD\n",
    "environment in YAML, quoted": f"env:\n  - name: \"API_KEY\"\n    value: '{SECRET}'\n",
    "JSON patch": json_(op="replace", path="/spec/password", value=SECRET),
    "JSON patch of a Secret": json_(op="add", path="/stringData/host", value=SECRET),
    "kubeconfig": f"users:\n- name: admin\n  user:\n    token: {SECRET}\n    client-key-data: {encoded(_RSA)}\n",
    "docker config": json_(auths={"registry.example.com": {"auth": encoded(f"lab:{SECRET}")}}),
    "docker config with tokens": json_(auths={"https://r.example.com": {"identitytoken": SECRET}}),
    "docker config as text": json_(data={".dockerconfigjson": json_(auths={"r": {"auth": encoded(SECRET)}})}),
    "command of a container": json_(args=["serve", "--password", SECRET, "--port", "80"]),
    "command with an equals sign": json_(args=["serve", f"--db-password={SECRET}"]),
    "command with a user": json_(args=["curl", "-u", f"lab:{SECRET}", "https://example.com"]),
    # virtual machines
    "cloud-config": json_(data=_CLOUD_CONFIG),
    "cloud-config after a comment": json_(data=f"# made by hand\n{_CLOUD_CONFIG}"),
    "cloud-config after several comments": f"## template: jinja\n# by hand\n\n{_CLOUD_CONFIG}",
    "cloud-config after a byte order mark": f"\ufeff{_CLOUD_CONFIG}",
    "cloud-config in YAML under another name": f"start: |\n  #cloud-config\n  users: [{SECRET}]\nother: 1\n",
    "cloud-config in several parts": (
        "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/cloud-config\n\n"
        f"#cloud-config\nruncmd:\n- adduser {SECRET}\n--x--\n"
    ),
    "cloud-config in base64": json_(start=encoded(_CLOUD_CONFIG)),
    "cloud-config in gzip and base64": json_(start=encoded(packed(_CLOUD_CONFIG))),
    "cloud-init of KubeVirt": json_(volumes=[{"name": "c", "cloudInitNoCloud": {"userData": SECRET}}]),
    "cloud-init of KubeVirt, packed": json_(volumes=[{"cloudInitConfigDrive": {"userDataBase64": encoded(SECRET)}}]),
    "Ignition": _IGNITION,
    "Ignition as text": json_(start=_IGNITION),
    "Ignition as an annotation": json_(metadata={"annotations": {"kubevirt.io/ignitiondata": _IGNITION}}),
    "Ignition in base64": json_(start=encoded(_IGNITION)),
    "Ignition in gzip and base64": json_(start=encoded(packed(_IGNITION))),
    "Ignition cut off": _IGNITION[:-5],
    "Butane": f"variant: fcos\nversion: 1.5.0\nstorage:\n  files:\n  - path: /a\n    contents: {{inline: {SECRET}}}\n",
    "guestinfo of Ignition": json_(
        extraConfig=[{"key": "guestinfo.ignition.config.data", "value": encoded(packed(_IGNITION))}]
    ),
    "guestinfo of Talos": json_(
        ExtraConfig=[{"Key": "guestinfo.talos.config", "Value": encoded(f"machine: {SECRET}")}]
    ),
    "guestinfo in a vmx file": f'numvcpus = "2"\nguestinfo.ignition.config.data = "{encoded(_IGNITION)}"\n',
    "guestinfo in a sentence": f'config.extraConfig("guestinfo.talos.config").value: "" -> "{SECRET}"; numCPU: 2 -> 4',
    "guestinfo in XML": f"<o><key>guestinfo.userdata</key><value>{SECRET}</value></o>",
    "Talos' machine configuration": f"version: v1alpha1\nmachine:\n  token: {SECRET}\n  ca:\n    key: {encoded(_PEM)}",
    "encrypted VM": json_(ConfigSpec={"ExtraConfig": [{"Key": "encryption.bundle", "Value": SECRET}]}),
    "encrypted VM in a sentence": f'config.extraConfig("encryption.bundle").value: <unset> -> "{SECRET}"',
    "login of vCenter": json_(SessionId=SECRET, UserName="LAB\\a"),
    "Windows' answer file": (
        f"<unattend><AutoLogon><Password><Value>{SECRET}</Value><PlainText>true</PlainText></Password></AutoLogon>"
        f"<UserData><ProductKey><Key>{SECRET}</Key></ProductKey></UserData></unattend>"
    ),
    "kickstart": f"rootpw --plaintext {SECRET}\n",
    "preseed": f"d-i passwd/root-password password {SECRET}\n",
    "OVF property": f'<Property ovf:key="admin-password" ovf:value="{SECRET}"/>',
    # sentences and files
    "password in words": f"the password is {SECRET}, do not tell",
    "password in quotes": f"login of lab with password '{SECRET}' failed",
    "option": f"psql --password {SECRET} -h db",
    "option with a quote": f"app --client-secret '{SECRET}' run",
    "netrc": f"machine example.com login lab password {SECRET}\n",
    "redis": f"requirepass {SECRET}\n",
    "INI with blanks": f"[db]\npassword = {SECRET} and {SECRET}\nport = 1\n",
    "properties": f"spring.datasource.password={SECRET}\nspring.datasource.username=lab\n",
    "TOML": f'api_key = "{SECRET}"\n',
    "shell": f"export AWS_SECRET_ACCESS_KEY={SECRET}\nexport B=1\n",
    "Dockerfile": f"ENV DB_PASSWORD {SECRET}\nENV A b\n",
    "logfmt": f"level=info msg=start db_password={SECRET} user=lab",
    "ODBC": f"Driver=x;Server=db;UID=sa;PWD={SECRET};Database=lab",
    "ADO.NET": f"Server=db;User Id=sa;Password={SECRET};Encrypt=true",
    "Azure storage": f"DefaultEndpointsProtocol=https;AccountName=lab;AccountKey={SECRET}==;EndpointSuffix=x",
    "JAAS": f'org.apache.Login required username="lab" password="{SECRET}";',
    "Authorization header": f"GET / HTTP/1.1\r\nAuthorization: Basic {encoded('lab:' + SECRET)}\r\nHost: a\r\n",
    "bearer header": f"curl -H 'Authorization: Bearer {SECRET}' https://example.com",
    "bearer alone": f"sent with Bearer {SECRET}, refused",
    "basic alone": f"sent with Basic {encoded('lab:' + SECRET)}, refused",
    "cookies": f"Cookie: theme=dark; sid={SECRET}; lang=de\r\n",
    "headers as a list": json_(headers=[["X-Api-Key", SECRET], ["Accept", "*/*"]]),
    "headers as pairs": json_(headers=[{"name": "Authorization", "value": f"Bearer {SECRET}"}]),
    "form field": json_(type="password", id="x", value=SECRET),
    "form in HTML": f'<input type="password" name="p" value="{SECRET}">',
    "query": f"GET /v1?api_key={SECRET}&x=1",
    "query, percent-encoded": f"GET /login?next=%2Fv1%3Ftoken%3D{SECRET}%26x%3D1",
    "form body": f"user=lab&password={SECRET}&x=1",
    "SAS": f"https://lab.blob.example.com/c?sv=2022&se=2030&sig={SECRET}%3D",
    "AWS presigned": f"https://b.s3.example.com/k?X-Amz-Credential=LAB%2F1&X-Amz-Signature={SECRET}",
    "key in a query": f"https://maps.example.com/api?key={SECRET}&v=3",
    "user info": f"postgres://lab:{SECRET}@db:5432/lab",
    "user info with an @": f"amqp://lab:{SECRET}@x@mq/vhost",
    "user info with a slash": f"amqp://lab:a/{SECRET}@mq/vhost",
    "user info without a user": f"redis://:{SECRET}@cache:6379",
    "user info that is a token": f"https://{SECRET}@git.example.com/lab.git",
    "user info as a key": json_(**{f"https://lab:{SECRET}@r.example.com": 1}),
    "user info, twice": f"a http://a:{SECRET}@x/ and http://b:{SECRET}@y/",
    "chpasswd": f'echo "root:{SECRET}" | chpasswd',
    "docker login": f"echo {SECRET} | docker login -u lab --password-stdin r.example.com",
    "sshpass": f"sshpass -p {SECRET} ssh lab@host",
    "curl": f"curl -u lab:{SECRET} https://example.com",
    # by their look
    "PEM": _PEM,
    "PEM in JSON": json_(file=_RSA),
    "PEM with written line ends": _RSA.replace("\n", "\\n"),
    "PEM in one line": _RSA.replace("\n", " "),
    "PEM that is cut off": f"the file is\n{_RSA[:90]}",
    "PEM as a list of lines": json_(file=_RSA.split("\n")),
    "PEM in XML": f"<a><b>{_RSA}</b></a>",
    "PEM in base64": json_(file=encoded(_RSA)),
    "PEM in base64, in lines": f"file: |\n{wrapped(encoded(_RSA * 3))}\n",
    "PEM in gzip": json_(file=encoded(packed(_RSA))),
    "DER in base64": json_(file=_DER),
    "JSON Web Token": json_(seen=_JWT),
    "JSON Web Token in a sentence": f"refused {_JWT}, expired",
    "JSON Web Token in base64": json_(seen=encoded(f"seen {_JWT}")),
    "AWS key": "the key AKIALAB0000000000000 is used",
    "password's hash": f"root:$6$abc$LAB0000000000000{'x' * 60}:19000:0:99999:7:::",
    "Slack webhook": f"https://hooks.slack.com/services/T000/B000/{SECRET}",
    "Vault's token": f"hvs.LAB0000000000000{'x' * 20}",
    # encodings
    "base64 of an assignment": json_(a=encoded(f"password={SECRET}")),
    "base64 of JSON": json_(a=encoded(json_(token=SECRET))),
    "base64 without padding": json_(a=encoded(f"password={SECRET}!").rstrip("=")),
    "base64 for URLs": json_(a=base64.urlsafe_b64encode(f"password={SECRET}???>>>".encode()).decode()),
    "base64 in lines": wrapped(encoded(f"{'about nothing, ' * 9}password={SECRET}")),
    "base64 in lines, indented": "a: |\n  "
    + wrapped(encoded(f"{'about nothing, ' * 9}password={SECRET}")).replace("\n", "\n  "),
    "base64 twice": json_(a=encoded(encoded(f"password={SECRET}"))),
    "base64 three times": json_(a=encoded(encoded(encoded(f"password={SECRET}")))),
    "base64 in a data URL": f"data:text/plain;base64,{encoded(f'password={SECRET}')}",
    "base64 in a sentence": f"it wrote {encoded(f'password={SECRET}')}, then nothing",
    "base64 that is cut off": encoded(f"password={SECRET}; and some more words")[:-3],
    "base64 of UTF-16": json_(run=f"powershell -enc {encoded(f'$password = {SECRET!r}'.encode('utf-16-le'))}"),
    "base64 after a slash": f"blobs/{encoded(json_(token=SECRET))}",
    "base64 in XML": f"<a>{encoded(f'password={SECRET}')}</a>",
    "gzip in base64": json_(a=encoded(packed(f"password={SECRET}"))),
    "gzip in base64, twice": json_(a=encoded(packed(encoded(packed(f"password={SECRET}"))))),
    "two gzip files in base64": json_(a=encoded(packed("nothing") + packed(f"password={SECRET}"))),
    "gzip that is cut off, in base64": json_(a=encoded(packed(f"password={SECRET} " + "and more " * 99)[:-12])),
    "zlib in base64": json_(a=encoded(zlib.compress(f"password={SECRET}".encode()))),
    "Helm's release": json_(release=encoded(encoded(packed(json_(config={"password": SECRET}))))),
    "gzip": packed(f"password={SECRET}"),
    "gzip with a wrong sum": packed(f"password={SECRET}")[:-8] + b"\0" * 8,
    # more of each
    "form with several parts": (f'--x\r\nContent-Disposition: form-data; name="password"\r\n\r\n{SECRET}\r\n--x--\r\n'),
    "JSON in a query": f"GET /a?state=%7B%22password%22%3A%22{SECRET}%22%7D&b=c",
    "AWS credentials file": f"[default]\naws_access_key_id = AKIALAB0000000000000\naws_secret_access_key = {SECRET}\n",
    "Google's service account": json_(type="service_account", private_key_id=SECRET, private_key=_RSA),
    "kubeadm": f"kubeadm join 10.0.0.1:6443 --token {SECRET} --certificate-key {SECRET}",
    "git's remote": f"https://oauth2:{SECRET}@git.example.com/lab.git",
    "htpasswd": "lab:$apr1$LAB0000000000000$xxxxxxxxxxxxxxxxxxxxxx",
    "LDIF": f"dn: cn=lab\nuserPassword:: {SECRET}\n",
    "SQL": f"ALTER USER lab WITH PASSWORD '{SECRET}'",
    "SQL of MySQL": f"CREATE USER 'lab'@'%' IDENTIFIED BY '{SECRET}'",
    "mysql": f"mysql -h db -u lab -p{SECRET} lab",
    "net user": f"net user lab {SECRET} /add",
    "kubectl create secret": f"kubectl create secret generic db --from-literal=user={SECRET}",
    "Terraform's output": json_(db={"sensitive": True, "type": "string", "value": SECRET}),
    "list under a secret's name in YAML": f"passwords: [a, {SECRET}]\nother: 1\n",
    "object under a secret's name in YAML": f"credentials: {{a: {SECRET}, b: x}}\n",
    "list in a sentence": f"started with tokens=[a, {SECRET}] at once",
    "properties on two lines": f"db.password=a\\\n  {SECRET}\nother=1\n",
    "PKCS#12": encoded(bytes.fromhex("308209cf020103308209850609") + SECRET.encode()),
    "Telegram's bot": f"https://api.telegram.org/bot123456:{SECRET}/sendMessage",
    "protobuf": b"\x0a\x08password\x12\x0c" + SECRET.encode(),
    "MessagePack": b"\x81\xa8password\xac" + SECRET.encode(),
    "PowerShell": f"ConvertTo-SecureString -String '{SECRET}' -AsPlainText",
    "Markdown": f"**Password**: `{SECRET}`",
    "Markdown's table": f"| password | {SECRET} |",
    "TOML on several lines": f'secret = """\n{SECRET}\n"""\n',
    "sentence with a colon": f"the passphrase is: {SECRET}",
    "sssd": f"ldap_default_authtok = {SECRET}\n",
    "SAML": f"SAMLResponse={SECRET}&RelayState=x",
    "element of a web service": f'<w:Password Type="x#PasswordText">{SECRET}</w:Password>',
    "guestinfo of another kind": json_(extraConfig=[{"key": "guestinfo.cloud-init.data", "value": SECRET}]),
    # what is broken
    "JSON with one byte that is not UTF-8": json_(password=SECRET, a="x").encode().replace(b'"x"', b'"\xff"'),
    "JSON in latin-1": json_(password=SECRET, a="x").encode().replace(b'"x"', '"ü"'.encode("latin-1")),
    "JSON in UTF-16": json_(password=SECRET).encode("utf-16"),
    "JSON in UTF-16 without a mark": json_(password=SECRET).encode("utf-16-le"),
    "JSON in UTF-32": json_(password=SECRET).encode("utf-32-be"),
    "JSON after a byte order mark": b"\xef\xbb\xbf" + json_(password=SECRET).encode(),
    "JSON after a wrong byte order mark": b"\xff\xfe" + json_(password=SECRET).encode(),
    "JSON after a zero": b"\0" + json_(password=SECRET).encode(),
    "JSON with one byte in the name": json_(password=SECRET).encode().replace(b"passw", b"pass\xffw"),
    "JSON that is cut off": json_(a=1, password=SECRET)[:-2],
    "JSON with a comma too many": json_(password=SECRET)[:-1] + ",}",
    "JSON with a brace too many": json_(password=SECRET) + "}",
    "JSON with a quote before it": '"' + json.dumps(_K8S_SECRET),
    "JSON with a quote in it": json.dumps(_K8S_SECRET).replace('"v1"', '"v1""'),
    "JSON with a comment": "// a Secret\n" + json.dumps(_K8S_SECRET),
    "JSON in lines": json.dumps({"a": 1}) + "\n" + json.dumps(_K8S_SECRET),
    "JSON in a sentence": f"refused: {json.dumps(_K8S_SECRET)} (422)",
    "Secret that is cut off": json.dumps(_K8S_SECRET)[:-3],
    "Secret, value before kind, cut off": json.dumps(dict(reversed(_K8S_SECRET.items())))[:-3],
    "Secret as Python writes it": repr(_K8S_SECRET),
    "SecretList that is cut off": json_(kind="SecretList", items=[{"data": {"user": SECRET}}])[:-1],
    "pair that is cut off": json_(env=[{"value": SECRET, "name": "DB_PASSWORD"}])[:-1],
    "object under a secret's name, cut off": json_(credentials={"a": SECRET, "b": [SECRET]})[:-1],
    "cloud-config in what is cut off": json_(a=_CLOUD_CONFIG)[:-1],
    "name with an escape, cut off": '{"\\u0070assword": "' + SECRET,
    "text in text, cut off": json_(a=json_(b=json_(password=SECRET)))[:-1],
    "HTML's quotes": f"{{&quot;password&quot;:&quot;{SECRET}&quot;}}",
    "YAML with a quote that is not closed": f'a: "x\npassword: "{SECRET}\n',
    "XML that is not closed": f"<a><password>{SECRET}",
    "XML after syslog's number": f"<134>Jan 1 host app: password={SECRET}",
    "password in bytes": b"\x00\x01\x02\x03password=" + SECRET.encode() + b"\xff\xfe",
    "XML with CDATA": f"<a><secret><![CDATA[{SECRET}]]></secret></a>",
    "property list": f"<dict><key>password</key><string>{SECRET}</string></dict>",
}
"""By what they are; text, or bytes that are none."""

_DIGEST = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_UUID = "8c2f1a52-5c6e-4f7a-9d1c-0d6f6a0b7f11"
_CERTIFICATE = (
    "-----BEGIN CERTIFICATE-----\n"
    "MIIC+TCCAeGgAwIBAgIUMbflTpbTUBkNivZuVVfrM2WZ49QwDQYJKoZIhvcNAQEL\n"
    "-----END CERTIFICATE-----\n"
)

HARMLESS: dict[str, str] = {
    "name of a Secret": json_(secretName="db", volumes=[{"name": "s", "secret": {"secretName": "db"}}]),
    "reference to a Secret": json_(
        env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]
    ),
    "reference of cloud-init": json_(
        cloudInitNoCloud={"secretRef": {"name": "x"}, "networkDataSecretRef": {"name": "y"}}
    ),
    "image pull secrets": json_(imagePullSecrets=[{"name": "regcred"}]),
    "secrets of a ServiceAccount": json_(secrets=[{"name": "a"}, {"name": "b"}]),
    "projected token": json_(sources=[{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]),
    "password from a Secret": json_(password={"valueFrom": {"secretKeyRef": {"name": "db", "key": "pw"}}}),
    "password of KubeVirt from a Secret": json_(userPassword={"source": {"secret": {"secretName": "db"}}}),
    "identity of a Trigger": json_(status={"auth": {"serviceAccountName": "lab-oidc"}}),
    "reference in a flow of YAML": "volumes:\n- name: s\n  secret: {secretName: db, optional: true}\n",
    "percent-encoded path": "GET /a%22b%3Dc?x=%7B1%7D",
    "no token": json_(automountServiceAccountToken=False),
    "access credentials": json_(accessCredentials=[{"sshPublicKey": {"source": {"secret": {"secretName": "k"}}}}]),
    "kinds of tokens": json_(token_type="Bearer", tokenExpirationSeconds=3600, passwordPolicy="strict"),
    "file of a password": json_(env=[{"name": "POSTGRES_PASSWORD_FILE", "value": "/run/secrets/pg"}]),
    "reference in YAML": "env:\n- name: A\n  valueFrom:\n    secretKeyRef:\n      name: db\n      key: password\n",
    "volume in YAML": "volumes:\n- name: s\n  secret:\n    secretName: db\n    optional: true\nother: 1\n",
    "ConfigMap": json_(kind="ConfigMap", data={"user": "shown", "mode": "fast"}),
    "ConfigMap in YAML": "kind: ConfigMap\ndata:\n  user: shown\n",
    "words with pass in them": json_(bypass="on", passthrough=[1], passive=True, compass="north", passenger="x"),
    "words with key in them": json_(
        keyboard="de", monkey=1, key="a", partitionkey="a/b", topologyKey="zone", publicKey="x"
    ),
    "words with token in them": json_(tokenizer="bpe", tokenized=True),
    "words with auth in them": json_(author="somebody", authority="x", authentic=True),
    "words with data in them": json_(metadata={"name": "x"}, userDatabase="lab", dataVolumeTemplates=[], data=1),
    "words with sig in them": json_(signal=9, design="x", assigned="y", significant=True),
    "words with session in them": json_(sessionIdle=5, sessionIdentity="x", session="open"),
    "sentence about a password": "the password of lab has expired; a new password must be set",
    "sentence about a token": "the token expired, ask for another token and try again",
    "sentence about a Secret": 'MountVolume.SetUp failed for volume "db" : secret "db-1" not found',
    "sentence about secrets": 'secrets "db-credentials-2" is forbidden: User "lab" cannot get resource "secrets"',
    "our own sentence": "the annotation hpa-event names the Secret lab/hook-2, which is not there",
    "rights": json_(rules=[{"resources": ["configmaps", "secrets", "pods"], "verbs": ["get", "list"]}]),
    "public key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBbDHTSFhjtGOXuzb1g4NgBFymsFbVtGWD0qlNwEZw lab@host",
    "authorized keys": json_(sshAuthorizedKeys=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBbDHTSFhj lab"]),
    "certificate": _CERTIFICATE,
    "certificate in base64": json_(caBundle=encoded(_CERTIFICATE)),
    "digest": json_(image=f"registry.example.com/lab/app@{_DIGEST}", id=_DIGEST),
    "uuid": json_(uid=_UUID, systemUUID=_UUID.upper(), resourceVersion="35784086"),
    "image in base64": json_(icon=encoded(bytes(range(256)) * 4)),
    "text in base64": json_(note=encoded("about the weather in the mountains, and of nothing else")),
    "text in gzip": json_(note=encoded(packed("about the weather in the mountains, and of nothing else"))),
    "URL": "https://registry.example.com:5000/lab/app?page=2&sort=name#top",
    "URL with an @ in its path": "https://example.com/@lab/post and https://example.com:8080/a@b",
    "URL of git": "git clone ssh://git@example.com/lab.git",
    "address": "write to lab@example.com",
    "time and numbers": json_(time="2026-11-22T10:00:00.832Z", cores=4, memory="8Gi", ratio=1.5),
    "labels": json_(labels={"app.kubernetes.io/name": "app", "os.template.kubevirt.io/rhel9": "true"}),
    "price": "it costs $6 or $5$ each",
    "path": "/apis/kubevirt.io/v1/namespaces/lab/virtualmachines/rhel-vm-2",
    "node's message": "0/6 nodes are available: 3 Insufficient memory, 3 node(s) had untolerated taint {a: b}",
    "sentence of vCenter": "Task: Reconfigure virtual machine. numCPU: 2 -> 4; memoryMB: 4096 -> 8192",
    "XML of an event": '<event><vm type="VirtualMachine">vm-12</vm><key>7</key><value>8</value></event>',
    "table of values": json_(ExtraConfig=[{"Key": "svga.present", "Value": "TRUE"}, {"Key": "a", "Value": "b"}]),
    "guestinfo": json_(ExtraConfig=[{"Key": "guestinfo.hostname", "Value": "lab-1"}]),
    "command": json_(args=["serve", "--port", "80", "--log-level=debug", "-u", "lab"]),
    "flow of YAML": "selector: {app: web, tier: front}",
    "query": "SELECT name, key FROM fleet WHERE id = 7 ORDER BY name",
    "stack trace": 'File "/app/function/web/app.py", line 12, in receive\n    raise errors.BadEvent("x")',
    "our readiness": json_(database="ok", ledger="ok", kubernetes="not configured"),
    "webhook of a host": "https://hooks.example.com/services/one",
    "Windows' path": "C:\\Users\\lab\\tokens\\readme.txt",
    "arithmetic": "x^2 + y^2 = z^2 and a < b && c > d",
    "Markdown": "# Keys\n- the *key* and the **token**\n- `password`\n",
}
"""What must stay as it is, for a person has to read it."""

HARD_TO_READ = (
    "token",
    'password="',
    "<",
    "<a ",
    "<a '\"",
    "&amp;",
    'token:"\\',
    "-",
    "<a></b>",
    "{",
    "token:\n- ",
    "kind: Secret\ndata: {",
    "kind: Secret\n- data:\n ",
    "<secret><data>",
    "<kind>Secret</kind>",
    '{"password":',
    '{\\"',
    "{'a':'b',",
    "password: x\n",
    "- name: password\n  value: x\n",
    "---\nkind: secret\n",
    "://a:b",
    "eyJaaaaaa.eyJ.",
    "AAAA",
    "A" * 20 + "\n",
    "H4sIAAAAAAAAAAAA\n",
    "-----BEGIN PRIVATE KEY-----",
    "&amp;quot;",
    "%22",
    "token=",
    "userdata",
    "&lt;/",
    "value: x\nname: password\n",
)
"""Pieces of which a long text is made that takes some way of reading it the longest."""
