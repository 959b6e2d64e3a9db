"""Token ids of awkward texts by the tokenizer that ImageReward uses: transformers' BertTokenizer, the one in Python.

    pip install transformers==4.38.2
    python make_wordpiece_goldens.py

Writes wordpiece_vocab.txt and wordpiece.json. The vocabulary has every character that is left of these texts once they are cleaned, at the beginning
of a word and within one, and pieces: only a word of more than 100 characters is unknown, so that no difference hides behind [UNK].
"""
import json
import pathlib
import random

from make_imagereward_goldens import PIECES
from transformers import BertTokenizer
from transformers.models.bert.tokenization_bert import BasicTokenizer

HERE = pathlib.Path(__file__).parent
ATOMS = ["the photo", "UPPER Case", "naïve café", "straße", "日本語", "한국", "мир", "don't", "a-b_c", "e\u0301", "\u200b", "\u00a0", "\t\n", "\ufffd",
         "…", "“quoted”", "🙂", "👩‍👩‍👧", "x" * 101, "y" * 100, "ΑΣ", "ΣΑΣ Σ", "[ENC]", "[DEC]x", "[SEP]", "[mask]", "[MASK]", "1,234.5", "€5", "#tag", "@me",
         "a/b", "\x00", "\x07", "½", "ﬁ", "Ǆ", "İ", "K", "[SEP]\u065c", "[DEC]\ua8e7", "über", "unknown backgrounds", "red boots", "on", "", " ", "\u2028",
         "−", "·", "𝒜", "ä" * 3, "Ⅷ", "Å", "Ω", "ẛ̣", "각", "ᄒ\u1161\u11ab", "が", "ガ", "ﾊﾟ", "〜", "、", "。", "《書》", "𠀀", "丽", "ʼn", "ŉ", "ﷺ", "עִברית",
         "हिन्दी", "ภาษา", "\u0640", "\u00ad", "\u2060", "a\u0323\u0301", "^", "`", "~", "|", "$", "+", "=", "<b>", "²", "№", "™", "\x7f", "\x85", "\u3000", "\ufeff", "ẞ", "ŁÓDŹ", "Ø", "ð"]
# Scripts and signs in which nothing was assigned lately.
RANGES = [(0x20, 0x7F), (0xA0, 0x250), (0x250, 0x2B0), (0x300, 0x370), (0x391, 0x3CA), (0x400, 0x482), (0x5D0, 0x5EB), (0x621, 0x653), (0x905, 0x93A),
          (0x1E00, 0x1F00), (0x2010, 0x2028), (0x2030, 0x205F), (0x20A0, 0x20AD), (0x2190, 0x2200), (0x3041, 0x3097), (0x30A1, 0x30FB), (0x4E00, 0x4F00),
          (0xAC00, 0xAD00), (0xF900, 0xFA00), (0xFF01, 0xFFBF)]


def awkward(generator):
    def text():
        return "".join(generator.choice(["", " ", "  "]) + generator.choice(ATOMS) for _ in range(generator.randrange(0, 9)))

    def characters():
        low, high = generator.choice(RANGES)
        return "".join(generator.choice([chr(generator.randrange(low, high)), " ", "a"]) for _ in range(generator.randrange(1, 24)))

    return [text() for _ in range(1000)] + [characters() for _ in range(400)]


def main():
    texts = awkward(random.Random(1))
    basic = BasicTokenizer(do_lower_case=True)
    characters = sorted({character for text in texts for word in basic.tokenize(text) for character in word})
    special = [f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")]
    pieces = list(dict.fromkeys(special + characters + ["##" + character for character in characters] + PIECES))
    vocabulary = HERE / "wordpiece_vocab.txt"
    vocabulary.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(str(vocabulary))
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    ids = [tokenizer(text, truncation=True, max_length=35).input_ids for text in texts]
    unknown = sum(row.count(tokenizer.unk_token_id) for row in ids)
    print(f"{len(texts)} texts, {len(pieces)} pieces, {unknown} of {sum(map(len, ids))} tokens unknown")
    (HERE / "wordpiece.json").write_text(json.dumps({"texts": texts, "ids": ids}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
