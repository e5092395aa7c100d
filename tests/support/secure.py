"""Servers that ask who comes: certificates, a broker with SASL_SSL, Redis with users behind TLS."""

import asyncio
import contextlib
import datetime
import hashlib
import ipaddress
import ssl
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from cli.local.servers import Broker, RedisServer, free_port

USER, PASSWORD = "pipeline", "s3cret words"


class Authority:
    """A certificate authority of one test; ``ca_file`` is its certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.ca_file = folder / "ca.pem"
        own = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        self.ca_file.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, name: x509.Name, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def issue(self, name: str) -> Path:
        """A PEM file of private key and certificate for 127.0.0.1."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._builder(subject, key).add_extension(here, False).sign(self._key, hashes.SHA256())
        file = self._folder / f"{name}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file


class SecureBroker(Broker):
    """A broker whose ``address`` takes SASL_SSL alone, with SCRAM-SHA-512 and a client certificate."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder)
        self._secure_port = free_port()
        self._authority, self._own = authority, authority.issue("broker")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._secure_port}"

    def properties(self) -> dict[str, str]:
        plain = super().properties()
        store = {"keystore": self._own, "truststore": self._authority.ca_file}
        return (
            plain
            | {key: f"{plain[key]},SASL_SSL://{self.address}" for key in ("listeners", "advertised.listeners")}
            | {
                "listener.security.protocol.map": plain["listener.security.protocol.map"] + ",SASL_SSL:SASL_SSL",
                "inter.broker.listener.name": "PLAINTEXT",
                "sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                ),
                "ssl.client.auth": "required",
            }
            | {f"ssl.{name}.type": "PEM" for name in store}
            | {f"ssl.{name}.location": str(file) for name, file in store.items()}
        )

    def add_user(self, name: str, password: str) -> None:
        """Store a SCRAM credential over the inner listener."""
        from confluent_kafka.admin import (
            AdminClient,
            ScramCredentialInfo,
            ScramMechanism,
            UserScramCredentialUpsertion,
        )

        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        stored = admin.alter_user_scram_credentials([UserScramCredentialUpsertion(name, info, password.encode())])
        for future in stored.values():
            future.result(30)


class SecureRedis(RedisServer):
    """A Redis server whose only user is ``USER``; the default user is off."""

    def command(self) -> list[str]:
        digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
        self.folder.joinpath("users.acl").write_text(f"user default off\nuser {USER} on #{digest} ~* &* +@all\n")
        return [*super().command(), "--aclfile", str(self.folder / "users.acl")]

    def ready(self) -> bool:
        import redis

        with contextlib.suppress(redis.RedisError, OSError):
            return bool(redis.Redis(port=self.port, username=USER, password=PASSWORD, socket_timeout=1).ping())
        return False


class TlsFront:
    """Ends TLS before a server that cannot (the Redis server of the wheel is built without): real handshakes."""

    def __init__(self, port: int, authority: Authority) -> None:
        self._behind = port
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca_file))
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_cert_chain(authority.issue("front"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> "TlsFront":
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context), self._loop
        )
        self.port = started.result(10).sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._behind)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, to_writer), pump(to_reader, writer))

    def __exit__(self, *ending: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
