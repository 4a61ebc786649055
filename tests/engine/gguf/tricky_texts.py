"""Texts on which tokenizers part: spaces, digits, contractions, scripts, marks, control tokens, in many places."""

from itertools import product

MARKS = "🙂🏳️‍🌈 e\u0301 नमस्ते สวัสดี"  # that combine with the letter before them
_PARTS = [
    "a    b  c",
    "  lead and trail  ",
    "\n\n\n  \t 12345 3.14",
    "it's o'clock, I'LL don't WE'RE you'Ve",
    "def f(x):\n    return x**2\n",
    "Grüße aus Köln",
    "你好，世界。今天12月31日",
    "Привет, мир! 1 000 000",
    MARKS,
    "مرحبا بالعالم ١٢٣",
    "<|im_end|>\n<tool>x",
    "HTTPServer2Go_v1.2.3-rc4",
    "€100, £5.50; ½ + ²",
    "\r\na\r\r\nb\u00a0c\u3000d",
    "-----===***///###",
    "ﬁne ǅ Ωmega ß ſ",
    "東京タワー カタカナ 한국어",
]
_ENDS = ["", " ", "\n", "7", "x", ".", "  \n", "'s", "你", "\t\t", "/", "ÄÖ"]
TRICKY = [start + end for start, end in product(_PARTS, _ENDS)]
