"""Makes open-clip/: a small vocabulary in open_clip's form, and what open_clip's tokenizer makes of awkward strings.

    pip install open_clip_torch==3.3.0
    python make_open_clip_goldens.py

Writes
    open-clip/bpe.txt.gz      the merges of files/
    open-clip/goldens.json    {"texts": [...], "ids": [...]}, padding stripped: the texts of goldens.json and 1,000 made from a seed

Texts that ftfy repairs in ways that OpenCLIPText leaves out (wrong encoding, terminal escapes) are not among them; how many is printed.

--full DIR writes DIR/goldens.json over the same texts with open_clip's own vocabulary; OPEN_CLIP_VOCABULARY=DIR lets the tests compare,
with open_clip's bpe_simple_vocab_16e6.txt.gz copied there too.
"""
import argparse
import gzip
import json
import random
import shutil
from pathlib import Path

import ftfy
from open_clip.tokenizer import SimpleTokenizer, default_bpe

HERE = Path(__file__).parent

ATOMS = """a|the|photo|of|returns|value|function|Object|ÉCLAIR|naïve|ΟΔΟΣ|Σ|ΣΑΣ.|σ'Σ|İstanbul|straße|ẞ|ǅungla|日本語|한국어|ภาษา|हिन्दी|עברית|Привет
    it's|I'M|they're|we'll|don't|o'clock|'s|'S|'|''|"|1|42|3.14|½|²|Ⅷ|٣|!|!!!|...|—|–|…|(x:1.2)|[a]|{b}|#tag|@me|$5|100%|a_b|\\|/|~|^
    ‘a’|“b”|„c“|ʼn|it’s|don‘t|«d»|ﬁne|oﬀ|ﬃ|ﬅ|ĳs|Ǆ|ǉ|ＦＵＬＬ　ｗｉｄｔｈ|ｶﾞ|￦|ﾡ|e\u0301|A\u030A|\u0301|ö\u0323|\u1100\u1161\u11a8|👍🏽|👩‍🚀|🏳️‍🌈|★|→|™|©
    &amp;|&amp;amp;|&amp;amp;lt;|&lt;|&gt;b|&quot;q&quot;|&#39;|&#x2019;|&rsquo;|&hellip;|&eacute;|&Eacute;|&copy2024|&notit|&nbsp;|&#0;|&#128;
    &#x80;|&#xFFFFFFFF;|&#65534;|&#7;|&#13;|&#x110000;|&#xD800;|&|&&|&;|&#;|&#x;|&unknown;|AT&T|R&D|&amp|&lt;b&gt;|<|<b>|a<b|</i>|&apos;s
    <start_of_text>|<end_of_text>|<END_OF_TEXT>|!<end_of_text>|<start_of_text>s|x<end_of_text>!|<start_of_text|<|startoftext|>|<|endoftext|>!
    \u200b|\u200d|\u00ad|\ufeff|\x00|\x07|\x0b|\x0c|\x1c|\x7f|\u2028|\u2029|\r\n|\r|\n|\t|\u3000|\u00a0|\u2003|\ufffd|\ufffc|\u206a|q\u0307"""


def texts():
    rng = random.Random(0)
    atoms = [a.strip(" ") for line in ATOMS.split("\n    ") for a in line.split("|")] + ["<|startoftext|>", "<|endoftext|>!", "|"]
    made = []
    for _ in range(900):
        made.append("".join(rng.choice(atoms) + rng.choice(["", " ", " ", "  "]) for _ in range(rng.randint(1, 9))))
    for _ in range(100):  # any characters that have been assigned for long
        low, high = rng.choice([(0x20, 0x7F), (0xA1, 0x250), (0x370, 0x400), (0x400, 0x530), (0x1E00, 0x2000), (0x2010, 0x2070), (0x3040, 0x3100)])
        made.append("".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 12))))
    made += ["boot " * 99, "<end_of_text> " * 80, "a" * 300]
    known = json.loads((HERE / "goldens.json").read_text(encoding="utf-8"))["texts"]
    return list(dict.fromkeys(known + made))


def is_left_out(text):
    cheap = dict(fix_encoding=False, remove_terminal_escapes=False)
    return ftfy.fix_text(text) != ftfy.fix_text(text, **cheap)


def rows(vocabulary, items):
    ids = SimpleTokenizer(str(vocabulary))(items).tolist()
    assert all(len(row) == 77 for row in ids)
    return [row[:max(k for k, i in enumerate(row) if i) + 1] for row in ids]


def dump(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", type=Path)
    full = parser.parse_args().full
    everything = texts()
    items = [text for text in everything if not is_left_out(text)]
    print(f"{len(items)} texts; {len(everything) - len(items)} left out")
    if full:
        full.mkdir(parents=True, exist_ok=True)
        shutil.copy(default_bpe(), full)
        return dump(full / "goldens.json", {"texts": items, "ids": rows(default_bpe(), items)})
    folder = HERE / "open-clip"
    folder.mkdir(exist_ok=True)
    # open_clip would take the end of a last line for one more merge.
    merges = (HERE / "files" / "merges.txt").read_bytes().rstrip(b"\n")
    (folder / "bpe.txt.gz").write_bytes(gzip.compress(merges, mtime=0))
    dump(folder / "goldens.json", {"texts": items, "ids": rows(folder / "bpe.txt.gz", items)})


if __name__ == "__main__":
    main()
