"""Drives the model double with the official SDK. Arguments: base URL, file with the CA, file with the API key.

Any exception fails the test; the last line says that the end was reached.
"""

import json
import pathlib
import ssl
import sys

import httpx2
import openai

base_url, ca, key_file = sys.argv[1:4]
key = pathlib.Path(key_file).read_text().strip()


# While a stream is read, the SDK lets the error of its HTTP client through.
CUT_OFF = (openai.APIConnectionError, httpx2.RemoteProtocolError)


def client(api_key=key, **options):
    options.setdefault("max_retries", 0)
    http = openai.DefaultHttpxClient(verify=ssl.create_default_context(cafile=ca) if ca else True)
    return openai.OpenAI(base_url=base_url, api_key=api_key, http_client=http, **options)


def equal(got, expected):
    assert got == expected, f"got {got!r}, expected {expected!r}"


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


NOTE = {
    "type": "function",
    "function": {
        "name": "notes__get_note",
        "description": "A note.",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}},
    },
}
USER = [{"role": "user", "content": "compare note 7 and note ö"}]
EXPECTED = [("notes__get_note", {"id": "7"}), ("notes__get_note", {"id": "ö and more"})]


def ask(model, messages=USER, api=None, **options):
    return (api or client()).chat.completions.create(model=model, messages=messages, **options)


def history(calls):
    """What a client sends back after tool calls."""
    assistant = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in calls
        ],
    }
    results = [{"role": "tool", "tool_call_id": i, "content": f"result of {i}"} for i, _, _ in calls]
    return [*USER, assistant, *results]


def models():
    names = [model.id for model in client().models.list()]
    for name in ["scripted:say-and-call", "scripted:gullible", "double-1", "scripted:two-calls"]:
        assert name in names, names


def text():
    answer = ask("double-1", [{"role": "user", "content": "hello"}])
    equal(answer.choices[0].message.content, "You said: hello")
    equal(answer.choices[0].finish_reason, "stop")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    # Parts instead of a string, and a role the SDK knows.
    parts = [{"role": "developer", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    equal(ask("double-1", parts).choices[0].message.content, "You said: hi")


def text_stream():
    chunks = list(
        ask("double-1", [{"role": "user", "content": "hello"}], stream=True, stream_options={"include_usage": True})
    )
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    equal("".join(deltas), "You said: hello")
    assert len([delta for delta in deltas if delta]) > 1, deltas
    equal([chunk.choices for chunk in chunks if chunk.usage], [[]])
    assert chunks[-1].usage.total_tokens > 0
    # Without being asked for there is no usage.
    assert all(chunk.usage is None for chunk in ask("double-1", stream=True))


def tool_calls():
    message = ask("scripted:two-calls", tools=[NOTE]).choices[0].message
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]
    equal([(name, json.loads(arguments)) for _, name, arguments in calls], EXPECTED)
    final = ask("scripted:two-calls", history(calls), tools=[NOTE])
    equal(final.choices[0].message.content, "It says: result of call_1")


def tool_calls_stream():
    calls, order = {}, []
    for chunk in ask("scripted:two-calls", tools=[NOTE], stream=True):
        for part in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(part.index, ["", "", ""])
            call[0] += part.id or ""
            call[1] += part.function.name or ""
            call[2] += part.function.arguments or ""
            if part.function.arguments:
                order.append(part.index)
        reason = chunk.choices[0].finish_reason
    equal(reason, "tool_calls")
    equal(order, [0, 1] * 7)
    equal([(name, json.loads(arguments)) for _, name, arguments in calls.values()], EXPECTED)
    # The SDK's own accumulator comes to the same.
    with client().chat.completions.stream(model="scripted:two-calls", messages=USER, tools=[NOTE]) as stream:
        message = stream.get_final_completion().choices[0].message
    equal([(c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls], EXPECTED)


def errors():
    raises(openai.AuthenticationError, lambda: client("wrong").models.list())
    raises(openai.NotFoundError, lambda: ask("no-such-model"))
    error = raises(openai.BadRequestError, lambda: ask("scripted:two-calls"))
    assert error.code == "unexpected_request" and "notes__get_note" in error.message, error
    error = raises(openai.BadRequestError, lambda: ask("double-1", [{"role": "tool", "tool_call_id": "x", "content": "r"}]))
    assert "answers no call" in error.message, error


def failures():
    """The steps of the script `failures`, in their order."""
    error = raises(openai.RateLimitError, lambda: ask("scripted:failures"))
    equal(error.response.headers["retry-after"], "1")
    raises(openai.InternalServerError, lambda: ask("scripted:failures"))
    raises(CUT_OFF, lambda: list(ask("scripted:failures", stream=True)))
    raises(openai.APITimeoutError, lambda: ask("scripted:failures", api=client(timeout=0.5)))
    equal(ask("scripted:failures").choices[0].message.tool_calls[0].function.arguments, '{"id": ')
    # The same failures again, and the SDK's own retries get over the first two.
    api = client(max_retries=2)
    raises(CUT_OFF, lambda: list(ask("scripted:failures", api=api, stream=True)))


def directives():
    """Any tool can be called without a script."""
    user = {"role": "user", "content": 'Please ```call {"tool": "notes__get_note", "arguments": {"id": "1"}}```'}
    message = ask("scripted:say-and-call", [user], tools=[NOTE]).choices[0].message
    call = message.tool_calls[0]
    equal((call.function.name, json.loads(call.function.arguments)), ("notes__get_note", {"id": "1"}))
    result = {"role": "tool", "tool_call_id": call.id, "content": "the text"}
    final = ask("scripted:say-and-call", [user, message, result], tools=[NOTE])
    equal(final.choices[0].message.content, "notes__get_note: the text")


for scenario in [models, text, text_stream, tool_calls, tool_calls_stream, errors, failures, directives]:
    scenario()
    print(f"passed: {scenario.__name__}", flush=True)
print(f"all passed with openai {openai.__version__}")
