"""Makes the tokenizer goldens: small CLIP tokenizers, and what transformers' CLIPTokenizer makes of awkward strings.

    python make_tokenizer_goldens.py            # needs transformers 5 and tokenizers; made with transformers 5.23, tokenizers 0.23
    python make_tokenizer_goldens.py --full     # also compares with OpenAI's vocabulary, if open_clip_torch is installed; see below

Writes beside itself
    files/          vocab.json, merges.txt and configs as Stable Diffusion 1.5 has them, 77 tokens; vocabulary learnt from Python's docstrings
    sd2/            the configs of Stable Diffusion 2 (pad token "!"); the tests add files/'s vocabulary
    inverted/       an added_tokens.json as textual inversion writes it; the tests add files/
    whole/          the same vocabulary as tokenizer.json alone, as transformers 5 writes it
    goldens.json    texts, and for each tokenizer their ids, padding stripped: {"texts": [...], "ids": {name: [[...], ...]}},
                    null where the ids are those of files/

--full DIR writes OpenAI's vocabulary (49,408 tokens, from open_clip's bpe_simple_vocab_16e6.txt.gz) in the layout of files/ to DIR,
checks that open_clip's own tokenizer and transformers agree on plain text, and adds DIR/goldens.json over all texts and many words more.
"""
import argparse
import gzip
import importlib.util
import json
import pathlib
import random
import re
import shutil
import tempfile

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

HERE = pathlib.Path(__file__).parent
TINY = HERE.parent.parent.parent / "models" / "tiny-sd" / "tokenizer"
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def docstrings():
    names = "argparse asyncio collections csv datetime decimal difflib email functools heapq html inspect itertools json logging"
    names += " os pathlib pickle random re shutil socket sqlite3 statistics string struct subprocess textwrap threading turtle"
    for name in names.split():
        module = importlib.import_module(name)
        for item in [module, *vars(module).values()]:
            if isinstance(getattr(item, "__doc__", None), str):
                yield item.__doc__


def learn(size):
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=EOS))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2, end_of_word_suffix="</w>", initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(docstrings(), trainer)
    return [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]


def alphabet():
    """The 256 characters that stand for bytes, in the order of CLIP's vocabulary: printing ones first."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in printing] + [chr(0x100 + k) for k in range(256 - len(printing))]


def vocabulary(merges):
    units = alphabet()
    pieces = units + [u + "</w>" for u in units] + ["".join(m) for m in merges] + [BOS, EOS]
    return {piece: k for k, piece in enumerate(dict.fromkeys(pieces))}


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def configs(folder, pad):
    """tokenizer_config.json and special_tokens_map.json in the form that transformers 4 gave them in the published models."""
    def token(content, **more):
        return dict(more, content=content, lstrip=False, normalized=True, rstrip=False, single_word=False)

    typed = {k: token(v, __type="AddedToken") for k, v in {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS}.items()}
    dump(folder / "tokenizer_config.json", dict(
        typed, add_prefix_space=False, do_lower_case=True, errors="replace", model_max_length=77, pad_token=EOS,
        tokenizer_class="CLIPTokenizer"))
    dump(folder / "special_tokens_map.json", dict(bos_token=token(BOS), eos_token=token(EOS), pad_token=pad, unk_token=token(EOS)))


def write_files(folder, merges):
    dump(folder / "vocab.json", vocabulary(merges))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in merges), encoding="utf-8")
    configs(folder, EOS)


def texts():
    plain = """|a|A red boot on a blue background|a photo of an astronaut riding a horse on mars|a thing|an  umbrella
        a painting, oil on canvas, 4k, trending on artstation|highly detailed!!! (masterpiece:1.2), [best quality]|tee. trouser; bag: boot
        The quick brown fox jumps over the lazy dog|supercalifragilisticexpialidocious|antidisestablishmentarianism HTTPServer iPhone
        function returns the value of an object when called with arguments|def __init__(self, *args, **kwargs):|C++ & C# / F#
        e-mail: a.b@example.org, https://example.org/?q=1&r=%20#top|100% of $5.00 at 12:30 on 2024-01-31|3.14159 1,000,000 1e-5 0x1F v2.1
        snake_case camelCase kebab-case|---=== ***  ...  ,,,|#hashtag @mention ^caret~ `tick` \\backslash\\|a<b>c</b> &amp; &lt;3 {x: [1]}"""
    quotes = """it's|don't|we're they've I'm she'll he'd|IT'S DON'T WE'RE THEY'VE I'M SHE'LL HE'D|'s 't 're 've 'm 'll 'd|''s '''t|x's's's
        'sample 'terrific 'really 'vex 'made 'llama 'dog|rock'n'roll|o'clock|the dogs' tails|it’s don’t (curly)|“quoted” ‘single’ «guillemets»
        'l 'v 'r 'lx|!'s|!'s 's!|1's 2'd|'S'T'RE|"'s"|' s|'|''|\""""
    accents = """café|cafe\u0301|naïve façade Ångström|A\u030angstro\u0308m|\u212b \u2126 \u212a|ÀÉÎÕÜ|Łódź Çelik Ñandú Ærøskøbing|e\u0301\u0301\u0301
        \u0301|\u0301a|a\u0323\u0307 a\u0307\u0323|ǅ ǈ ǋ Ǆ|ﬁ ﬂ ﬀ ﬃ|ſtraße|ß ẞ STRASSE|İstanbul I ı i|İ|ΟΔΥΣΣΕΎΣ|Σ σ ς ΑΣ ΑΣ. ΑΣΑ|Ὀδυσσεύς ᾼ ᾳ ΐ
        Москва Ёлка Й и\u0306|ѢѲ ꙂꙀ|Ա ԱԲԳ ﬔ|ႠႡ ა Აა|Ꭰ Ꮳ ꭰ|ⒶⒷ Ⅷ ⅷ|Ｆｕｌｌ ｗｉｄｔｈ １２|𝐁𝐨𝐥𝐝 𝔉𝔯𝔞𝔨 𝟘𝟙|𐐀𐐨 𞤀|ª º ʰ ᵃ ﾞ"""
    scripts = """一只红色的靴子|日本語のプロンプト、カタカナ ひらがな|が か\u3099 ｶﾞ|한국어 문장|\u1112\u1161\u11ab|각 \u1100\u1161\u11a8 \uac00\u11a8|\u1100\u1176 \u1113\u1161 \uac00\u11a7 \uac00\u11c3|\u1100\u0301\u1161 \u1161\u11a8 \uac01\u11a8|你好，世界！|漢字kanji漢字
        שלום עולם|שָׁלוֹם|مرحبا بالعالم|اَلْعَرَبِيَّةُ ـــ|١٢٣ ۴۵|हिन्दी में कि क्षि ड़ क\u093c|ไทยน้ำ|தமிழ் நீ|বাংলা ো|ελληνικά 'ς|\u202eright to left\u202c|\u200fשלום\u200e abc
        እንግሊዝኛ|ខ្មែរ|မြန်မာ|བོད་ཡིག|ᠮᠣᠩᠭᠣᠯ|ᚠᚢᚦ|𒀀𒁀|𓀀|豈 \uf900 \ufa0e \U0002f800|½ ¼ ² ³ ₂ ① Ⅻ 〇 ㊿ 𝟗 ๓ ߁ ௰"""
    symbols = """😀|a 😀 smile|😀😀😀|👍🏽|👩‍👩‍👧‍👦|🏳️‍🌈|🇩🇪🇫🇷|❤ ❤️|1️⃣ #️⃣|☃★♥♪|→ ← ↔ ∑ ∫ √ ≠ ≤ ∞|€ £ ¥ ₿ ¢|© ® ™ § ¶ • … – — ―|¿qué? ¡sí!|°C µm Ω|x² + y²|─│┌ █▓|🅰️ 🆗
        \ud7ff \ue000 \uf8ff \ufffd \ufffe \uffff|\U0010ffff \U0001fffe|\u0378 \u0530 \U000e0001|🫠🫨🪿🫩|dog🐶cat🐱|🐶's|🐶1🐶|¬¦|¯ ˜ ^ ¨ ´ ¸"""
    special = f"""{BOS}|{EOS}|a {EOS} b|a{EOS}b|{EOS}{EOS}|{BOS}{EOS}{BOS}|<|ENDOFTEXT|>|<|StartOfText|>x|!<|ENDOFTEXT|>!|x<|ENDOFTEXT|>!!<|ENDOFTEXT|><|STARTOFTEXT|>
        <|endoftext|<|endoftext|>|> <| |>|< |endoftext| >|<|endoftext|>'s|'s<|endoftext|>|e{EOS}\u0301|I{EOS}\u0307|!|!!|! !|hello! world!!|a!b|!a|!?|?!|<cat-toy>|a <cat-toy>s
        <CAT-TOY> <Cat-Toy>|<Dog-Toy> <dog-toy>|<cat-toy|cat-toy>|<<cat-toy>>|<cat-toy><cat-toy-2>|<cat-toy-2>|[PAD] [UNK] <unk> <pad> </w>|a</w>|</w></w>|Ġ Ċ Ã©|Ġthe"""
    # Bars part the texts above; texts with bars of their own are put together from placeholders.
    result = []
    for block in (plain, quotes, accents, scripts, symbols):
        result += [t.strip() for line in block.split("\n") for t in line.split("|")]
    marked = special.replace("<|", "\0").replace("|>", "\1")
    result += [t.strip().replace("\0", "<|").replace("\1", "|>") for line in marked.split("\n") for t in line.split("|")]
    spaces = "\t \n \r \r\n \v \f \x1c \x1d \x1e \x1f \x85 \xa0 \xad \u1680 \u180e \u2000 \u2002 \u2003 \u2009 \u200a \u200b \u200c \u200d \u2028 \u2029 \u202f \u205f \u2060 \u3000 \ufeff"
    result += [f"red{s}boot" for s in spaces.split(" ") if s] + [" ", "   ", "\t", "\n\n", " a ", "\n a\t\tb \r\n c\n", "a\r\nb\rc", "\u3000a\u3000"]
    result += [f"a{chr(c)}b" for c in [*range(0, 9), *range(14, 32), 127, 128, 129, 159]] + ["\0", "\x7f\x80"]
    result += ["word " * 100, "a" * 300, "ab" * 200, "!" * 200, "1" * 100, "é" * 120, "字" * 90, "😀" * 60, "a " * 75, "a " * 76, "x1 " * 40, "boot's " * 40]
    for k in range(2, 14):
        result.append(" ".join(["a red boot on a blue background"] * k))
    rng = random.Random(0)
    pool = list("abcdeXYZ 019 '!.,<|>-\t\n") + list("éßİΣσςЖ字가١½😀️‍\u0301\u0307\u200b\u00a0\ufeff") + ["'s", "'ll", "the ", "red ", EOS, " "]
    result += ["".join(rng.choices(pool, k=rng.randint(1, 40))) for _ in range(120)]
    return list(dict.fromkeys(result))


def ids_of(folder, items):
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    rows = tokenizer(items, padding="max_length", truncation=True, max_length=min(tokenizer.model_max_length, 77)).input_ids
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id

    def strip(row):
        count = len(row)
        while count > 1 and row[count - 1] == pad and (pad != end or row[count - 2] == end):
            count -= 1
        return row[:count]

    return [strip(row) for row in rows]


def with_files(name):
    """A throw-away folder: files/'s, with those of the folder `name` put over them."""
    folder = pathlib.Path(tempfile.mkdtemp())
    for source in (HERE / "files", HERE / name):
        shutil.copytree(source, folder, dirs_exist_ok=True)
    return folder


def full(folder, items):
    # The package without its __init__, which wants torchvision.
    package = pathlib.Path(importlib.util.find_spec("open_clip").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", package / "tokenizer.py")
    open_clip = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(open_clip)
    lines = gzip.open(package / "bpe_simple_vocab_16e6.txt.gz").read().decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    write_files(folder, [tuple(line.split()) for line in lines])
    items = items + list(dict.fromkeys(doc[:400] for doc in docstrings()))
    ids = ids_of(folder, items)
    peer = open_clip.SimpleTokenizer()
    plain = [k for k, t in enumerate(items) if t.isascii() and not re.search(r"[\x00-\x08\x0e-\x1f\x7f<&]", t)]
    different = [items[k] for k in plain if [i for i in peer(items[k])[0].tolist() if i] != [i for i in ids[k] if i]]
    print(f"OpenAI's vocabulary: {len(items)} texts, {len(plain)} of them plain, {len(different)} unlike open_clip {different[:3]}")
    dump(folder / "goldens.json", {"texts": items, "ids": {"full": ids}})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", type=pathlib.Path, metavar="DIR")
    options = parser.parse_args()
    items = texts()
    if options.full:
        return full(options.full, items)

    merges = learn(1500)
    write_files(HERE / "files", merges)
    configs(HERE / "sd2", "!")
    size = len(vocabulary(merges))
    dump(HERE / "inverted" / "added_tokens.json", {"<cat-toy>": size, "<Dog-Toy>": size + 1, "<cat-toy-2>": size + 2})
    with tempfile.TemporaryDirectory() as scratch:
        CLIPTokenizer.from_pretrained(str(HERE / "files")).save_pretrained(scratch)
        dump(HERE / "whole" / "tokenizer.json", json.loads(pathlib.Path(scratch, "tokenizer.json").read_text(encoding="utf-8")))
        dump(HERE / "whole" / "tokenizer_config.json",
             json.loads(pathlib.Path(scratch, "tokenizer_config.json").read_text(encoding="utf-8")))
    folders = {"tiny-sd": TINY, "files": HERE / "files", "whole": HERE / "whole", "sd2": with_files("sd2"), "inverted": with_files("inverted")}
    ids = {name: ids_of(folder, items) for name, folder in folders.items()}
    for name in ids:
        if name != "files":
            ids[name] = [None if row == same else row for row, same in zip(ids[name], ids["files"])]
    dump(HERE / "goldens.json", {"texts": items, "ids": ids})
    print(f"{len(items)} texts for {', '.join(folders)}")


if __name__ == "__main__":
    main()
