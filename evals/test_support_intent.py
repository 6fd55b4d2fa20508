"""Which of six intents does a customer's message have? Weighed on real messages by the real local model."""

from steelyard import at_least, exact_match, latency, not_worse_than


def classify(inputs, prompt, lm):
    return lm.complete(prompt.render(message=inputs["message"])).json()


def test_support_intent(steelyard):
    steelyard.gate(
        classify,
        dataset="support-intent",
        split="test",
        prompt="support-intent",
        evaluators=[exact_match("intent"), latency()],
        require=[
            at_least("exact_match", 0.17),
            not_worse_than("production", "exact_match", margin=0.05),
        ],
        report_only={"language": "ja"},
    )
