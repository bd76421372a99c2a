"""kafka-python's network client, which remembers why it got no connection and counts what it fetched.

Checked against kafka-python 3.0.12: a login that is refused and a certificate that is not trusted are tried again until
the time is up, and the error that comes then knows neither.
"""

from typing import Any

from kafka.errors import SaslAuthenticationFailedError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.protocol.consumer import FetchRequest

_HANDSHAKE = "Handshake failed: "


class _Manager(KafkaConnectionManager):  # type: ignore[misc] # kafka-python carries no types
    """Keeps the first failure that says more than that nobody answers."""

    def __init__(self, net: Any, **config: Any) -> None:
        super().__init__(net, **config)
        self.telling: Exception | None = None
        self.was_hung_up_on = False  # a refusal may be lost in the end of the connection that follows it
        self.n_fetches = 0

    def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
        sent = super().send(request, *arguments, **options)
        if isinstance(request, FetchRequest):
            sent.add_callback(self._count)  # the first callback: counted before anybody can see the records
        return sent

    def _count(self, _: object) -> None:
        self.n_fetches += 1

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        if self.bootstrapped:
            return super().get_connection(*arguments, **options)
        if self.telling is not None and len(self.cluster.bootstrap_brokers()) == 1:
            raise self.telling  # asking the same broker until the time is up would not help
        connection = super().get_connection(*arguments, **options)
        connection.init_future.add_errback(self._note)
        return connection

    def _note(self, failure: Exception) -> None:
        if isinstance(failure, SaslAuthenticationFailedError) or _HANDSHAKE in str(failure):
            self.telling = self.telling or failure
        self.was_hung_up_on |= "socket disconnected" in str(failure)


class WatchedNetClient(KafkaNetClient):  # type: ignore[misc] # as above
    """Takes the place of KafkaNetClient (the consumer's option `kafka_client`)."""

    def __init__(self, **config: Any) -> None:
        net = NetworkSelector(**config)
        self._watched = _Manager(net, **config)
        super().__init__(net=net, manager=self._watched, **config)

    @property
    def n_fetches(self) -> int:
        """Fetches answered so far, whether or not their records were polled."""
        return self._watched.n_fetches

    def refusal(self, user: str | None) -> str | None:
        """A clause that goes on after "Kafka at SERVERS", None where the brokers are simply away."""
        failure = self._watched.telling
        if failure is None and user is not None and self._watched.was_hung_up_on:
            return f"closed the connection at the login of the user {user}: the password may be wrong"
        if failure is None:
            return None
        words = str(failure).rpartition("Error: ")[2].removeprefix(_HANDSHAKE)
        if isinstance(failure, SaslAuthenticationFailedError):
            return f"refused the user {user}: {words}"
        return f"cannot be trusted or does not speak TLS: {words}"
