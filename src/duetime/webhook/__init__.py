"""Webhooks: events that call a URL, signed by the Standard Webhooks scheme, and their receivers."""

from duetime.webhook.answer import Answer, Fault
from duetime.webhook.handler import webhook_handler
from duetime.webhook.policy import Limits, Policy
from duetime.webhook.request import Request
from duetime.webhook.sender import Sender
from duetime.webhook.signing import Secret, sign
from duetime.webhook.target import Target, target_of
from duetime.webhook.verifier import Verified, Verifier

__all__ = [
    "Answer",
    "Fault",
    "Limits",
    "Policy",
    "Request",
    "Secret",
    "Sender",
    "Target",
    "Verified",
    "Verifier",
    "sign",
    "target_of",
    "webhook_handler",
]
