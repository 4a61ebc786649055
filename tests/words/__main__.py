"""`python -m tests.words` prints the template (.pot) from which a translation is begun."""

from tests.words.catalogue import template
from tests.words.messages import messages

print(template(messages()), end="")
