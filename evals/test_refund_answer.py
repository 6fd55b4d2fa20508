"""Answers grounded in a refund policy: the amount or time that the policy states, and nothing else."""

from steelyard import at_least, exact_match, latency, not_worse_than


def answer(inputs, prompt, lm):
    return lm.complete(prompt.render(question=inputs["question"], clause=inputs["clause"])).json()


def test_refund_answer(steelyard):
    steelyard.gate(
        answer,
        dataset="refund-policy",
        split="test",
        prompt="refund-answer",
        evaluators=[exact_match("answer"), latency()],
        require=[
            at_least("exact_match", 0.30),
            not_worse_than("production", "exact_match", margin=0.05),
        ],
        report_only={"language": "ja"},
    )
