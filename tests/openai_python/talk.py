"""Talks to the relay with OpenAI's own Python client: spoken turns, an interruption, calls, client
secrets, transcription, refusals.

    talk.py BINARY

Starts the relay on free ports with its embedded provider, speaks recorded human speech in real
time, prints what it measured, and fails if anything is not as OpenAI's API has it.
"""

import array
import asyncio
import base64
import os
import pathlib
import secrets
import sys
import time
import wave

import openai
import websockets

SPEECH = (
    "/usr/share/pocketsphinx/test/data/librivox/"
    "sense_and_sensibility_01_austen_64kb-0880.wav"
)
OFFER = pathlib.Path(__file__).parents[1] / "support/chromium.sdp"
MODEL = "gpt-realtime-2.1"
RATE = 24_000
FRAME = RATE // 50 * 2  # bytes in 20 ms
PATIENCE = 30  # seconds for anything to happen


async def main(binary):
    key = secrets.token_urlsafe(16)
    relay, address = await start(binary, key)
    client = openai.AsyncOpenAI(api_key=key, base_url=f"http://{address}/v1", max_retries=0)
    checks = [
        a_spoken_turn_and_an_interruption,
        an_item_is_retrieved,
        a_call_is_created_joined_and_hung_up,
        a_client_secret_opens_a_session,
        a_client_secret_makes_no_other,
        speech_is_transcribed,
        a_wrong_key,
        no_model,
        an_offer_that_is_none,
    ]
    failed = 0
    try:
        for check in checks:
            try:
                await asyncio.wait_for(check(client), 4 * PATIENCE)
            except Exception as error:  # a report for each, then the next
                failed += 1
                while isinstance(error, BaseExceptionGroup):
                    error = error.exceptions[0]
                print(f"{check.__name__}: FAILED: {type(error).__name__}: {error}")
            else:
                print(f"{check.__name__}: ok")
    finally:
        relay.terminate()
        status = await asyncio.wait_for(relay.wait(), PATIENCE)
    if status != 0:
        failed += 1
        print(f"the relay ended with {status}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return failed == 0


async def a_spoken_turn_and_an_interruption(client):
    async with client.realtime.connect(model=MODEL) as connection:
        talk = Talk(connection)
        async with asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(talk.listen()), tasks.create_task(talk.speak())]
            await talk.heard("session.created")
            await listen_patiently(talk)
            await spoken_turn(talk)
            await interruption(talk)
            for helper in helpers:
                helper.cancel()


async def listen_patiently(talk):
    """A reader pauses within a sentence for longer than the provider waits by default."""
    turn_detection = {"type": "server_vad", "silence_duration_ms": 700}
    session = {"type": "realtime", "audio": {"input": {"turn_detection": turn_detection}}}
    await talk.connection.session.update(session=session)
    updated = await talk.heard("session.updated")
    assert updated.event.session.audio.input.turn_detection.silence_duration_ms == 700


async def spoken_turn(talk):
    finished = await talk.say(speech())
    await talk.heard("input_audio_buffer.speech_started")
    stopped = await talk.heard("input_audio_buffer.speech_stopped")
    await talk.heard("input_audio_buffer.committed")
    await talk.heard("response.created")
    first = await talk.heard("response.output_audio.delta")
    done = await talk.heard("response.done")
    answer = talk.answers[done.event.response.id]
    assert done.event.response.status == "completed", done.event.response.status
    assert answer.seconds > 0.5, f"the answer is {answer.seconds:.2f} s long"
    assert loudness(answer.sound) > 100, "the answer is silent"
    assert done.event.response.usage.total_tokens > 0
    print(f"  end of speech -> speech_stopped    {ms(stopped.at - finished)}")
    print(f"  speech_stopped -> first audio      {ms(first.at - stopped.at)}")
    print(f"  end of speech -> first audio       {ms(first.at - finished)}")
    print(f"  answer: {answer.seconds:.1f} s of sound, sent in {done.at - first.at:.1f} s")


async def interruption(talk):
    await talk.say(speech())
    first = await talk.heard("response.output_audio.delta")
    cut = first.event.response_id
    await asyncio.sleep(0.5)
    began = time.monotonic()
    saying = asyncio.create_task(talk.say(speech()))
    started = await talk.heard("input_audio_buffer.speech_started")
    # The client owns playback here: it stops, and says how much was heard.
    played = min(started.at - first.at, talk.answers[cut].seconds)
    await talk.connection.conversation.item.truncate(
        item_id=first.event.item_id, content_index=0, audio_end_ms=int(played * 1000)
    )
    done = await talk.heard("response.done")
    assert done.event.response.id == cut
    status = done.event.response.status
    if status == "cancelled":
        assert done.event.response.status_details.reason == "turn_detected"
    else:
        assert status == "completed", status
    truncated = await talk.heard("conversation.item.truncated")
    assert truncated.event.item_id == first.event.item_id
    received = talk.answers[cut].seconds
    await saying
    after = await talk.heard("response.output_audio.delta")
    assert after.event.response_id != cut
    assert talk.answers[cut].seconds == received, "a cut answer went on"
    done = await talk.heard("response.done")
    assert done.event.response.id == after.event.response_id
    assert done.event.response.status == "completed", done.event.response.status
    print(f"  speech over the answer -> speech_started  {ms(started.at - began)}")
    print(f"  the answer: {status}, truncated at {truncated.event.audio_end_ms} ms")


async def an_item_is_retrieved(client):
    async with client.realtime.connect(model=MODEL) as connection:
        talk = Talk(connection)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(talk.listen())
            await talk.heard("session.created")
            content = [{"type": "input_text", "text": "Remember the milk."}]
            item = {"id": "item_milk", "type": "message", "role": "user", "content": content}
            await connection.conversation.item.create(item=item)
            await talk.heard("conversation.item.added")
            await connection.conversation.item.retrieve(item_id="item_milk")
            retrieved = await talk.heard("conversation.item.retrieved")
            assert retrieved.event.item.id == "item_milk", retrieved.event
            assert retrieved.event.item.content[0].text == "Remember the milk.", retrieved.event
            listening.cancel()


async def a_call_is_created_joined_and_hung_up(client):
    session = {"type": "realtime", "model": MODEL}
    created = await client.realtime.calls.with_raw_response.create(
        sdp=OFFER.read_text(), session=session
    )
    assert created.http_response.status_code == 201, created.http_response
    answer = created.parse().text
    assert answer.startswith("v=0\r\n") and "a=candidate:" in answer, answer
    call = created.headers["location"].removeprefix("/v1/realtime/calls/")
    assert call.startswith("rtc_"), call
    async with client.realtime.connect(call_id=call) as beside:
        event = await beside.recv()
        assert event.type == "session.created", event
        await client.realtime.calls.hangup(call)
        try:
            while True:
                await beside.recv()
        except websockets.ConnectionClosed:
            pass
    try:
        await client.realtime.calls.hangup(call)
    except openai.NotFoundError:
        pass
    else:
        raise AssertionError("the call was there after its end")


async def a_client_secret_opens_a_session(client):
    session = {"type": "realtime", "model": MODEL, "instructions": "Speak of the sea."}
    secret = await client.realtime.client_secrets.create(
        expires_after={"anchor": "created_at", "seconds": 60},
        session=session,
        extra_body={"voxline": {"user": "ada"}},
    )
    assert secret.value.startswith("ek_"), "not a client secret"
    assert 0 < secret.expires_at - time.time() <= 61, secret.expires_at
    assert secret.session.type == "realtime" and secret.session.model == MODEL, secret.session
    holder = client.with_options(api_key=secret.value)
    async with holder.realtime.connect(model=MODEL) as connection:
        talk = Talk(connection)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(talk.listen())
            created = await talk.heard("session.created")
            assert created.event.session.instructions == "Speak of the sea.", created.event
            await connection.response.create()
            done = await talk.heard("response.done")
            assert done.event.response.status == "completed", done.event.response.status
            assert loudness(talk.answers[done.event.response.id].sound) > 100
            listening.cancel()


async def a_client_secret_makes_no_other(client):
    secret = await client.realtime.client_secrets.create()
    holder = client.with_options(api_key=secret.value)
    try:
        await holder.realtime.client_secrets.create()
    except openai.PermissionDeniedError as error:
        assert error.code == "insufficient_permissions", error
    else:
        raise AssertionError("a client secret made another")


async def speech_is_transcribed(client):
    query = {"intent": "transcription"}
    async with client.realtime.connect(extra_query=query) as connection:
        talk = Talk(connection)
        async with asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(talk.listen())]
            await talk.heard("session.created")
            session = {
                "type": "transcription",
                "audio": {
                    "input": {
                        "transcription": {"model": "gpt-4o-transcribe"},
                        "turn_detection": {"type": "server_vad", "silence_duration_ms": 700},
                    }
                },
            }
            await connection.session.update(session=session)
            await talk.heard("session.updated")
            helpers.append(tasks.create_task(talk.speak()))
            finished = await talk.say(speech())
            await talk.heard("input_audio_buffer.committed")
            kind = "conversation.item.input_audio_transcription.completed"
            written = await talk.heard(kind)
            assert written.event.transcript, written.event
            assert not talk.answers, "a transcription was answered"
            print(f"  end of speech -> transcript        {ms(written.at - finished)}")
            for helper in helpers:
                helper.cancel()


async def a_wrong_key(client):
    await refused(client.with_options(api_key="not-a-key"), MODEL, "invalid_api_key", 3000)


async def no_model(client):
    await refused(client, "", "missing_model", 4000)


async def refused(client, model, code, close):
    async with client.realtime.connect(model=model) as connection:
        event = await connection.recv()
        assert event.type == "error" and event.error.code == code, event
        try:
            await connection.recv()
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd.code == close, closed
        else:
            raise AssertionError("the connection is still open")


async def an_offer_that_is_none(client):
    try:
        await client.realtime.calls.create(
            sdp="v=0", session={"type": "realtime", "model": MODEL}
        )
    except openai.BadRequestError as error:
        assert error.type == "invalid_request_error", error
        assert error.request_id, "no x-request-id"
    else:
        raise AssertionError("the offer was taken")


class Talk:
    """One conversation: a microphone that never stops, and an ear for every event."""

    def __init__(self, connection):
        self.connection = connection
        self.answers = {}
        self.words = asyncio.Queue()
        self.events = asyncio.Queue()

    async def speak(self):
        """Sends 20 ms every 20 ms: what is to be said, or silence."""
        due = time.monotonic()
        while True:
            try:
                frame, said = self.words.get_nowait()
            except asyncio.QueueEmpty:
                frame, said = bytes(FRAME), None
            await self.connection.input_audio_buffer.append(
                audio=base64.b64encode(frame).decode()
            )
            if said:
                said.set_result(time.monotonic())
            due += 0.02
            await asyncio.sleep(max(0, due - time.monotonic()))

    async def say(self, sound):
        """Says it, and returns when the last of it was said."""
        said = asyncio.get_running_loop().create_future()
        frames = [sound[at : at + FRAME] for at in range(0, len(sound), FRAME)]
        for frame in frames[:-1]:
            self.words.put_nowait((frame, None))
        self.words.put_nowait((frames[-1], said))
        return await said

    async def listen(self):
        async for event in self.connection:
            if event.type == "error":
                raise AssertionError(f"error event: {event.error}")
            if event.type == "response.output_audio.delta":
                answer = self.answers.setdefault(event.response_id, Answer())
                answer.sound += base64.b64decode(event.delta)
            self.events.put_nowait(Heard(event))
        raise AssertionError("the relay closed the connection")

    async def heard(self, kind):
        """Waits for the next event of this kind, and passes over the others."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    heard = await self.events.get()
                    if heard.event.type == kind:
                        return heard
        except TimeoutError:
            raise AssertionError(f"no {kind} in {PATIENCE} s") from None


class Heard:
    def __init__(self, event):
        self.event = event
        self.at = time.monotonic()


class Answer:
    def __init__(self):
        self.sound = b""

    @property
    def seconds(self):
        return len(self.sound) / 2 / RATE


async def start(binary, key):
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("VOXLINE_", "OPENAI_"))
    }
    relay = await asyncio.create_subprocess_exec(
        binary,
        "serve",
        "--listen=127.0.0.1:0",
        "--provider=embedded",
        "--log-filter=warn",
        env=environment | {"VOXLINE_API_KEY": key},
        stdout=asyncio.subprocess.PIPE,
    )
    async for line in relay.stdout:
        word, *rest = line.decode().split()
        if word == "page":
            return relay, rest[0].removeprefix("http://").rstrip("/")
    raise SystemExit(f"the relay did not start: it ended with {await relay.wait()}")


def speech():
    """A sentence spoken by a person, brought from 16 to 24 kHz."""
    with wave.open(SPEECH) as file:
        assert file.getparams()[:3] == (1, 2, 16_000)
        samples = array.array("h", file.readframes(file.getnframes()))
    resampled = array.array("h")
    for at in range(len(samples) * 3 // 2 - 1):
        index, third = divmod(at * 2, 3)
        low, high = samples[index], samples[min(index + 1, len(samples) - 1)]
        resampled.append(low + (high - low) * third // 3)
    sound = resampled.tobytes()
    return sound + bytes(-len(sound) % FRAME)


def loudness(sound):
    samples = array.array("h", sound)
    return (sum(sample * sample for sample in samples) / len(samples)) ** 0.5


def ms(seconds):
    return f"{seconds * 1000:6.0f} ms"


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main(sys.argv[1])) else 1)
