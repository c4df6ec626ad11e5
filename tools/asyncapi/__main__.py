"""`make asyncapi`: write the document into the package."""

from tools.asyncapi.document import SHIPPED, render

if __name__ == "__main__":
    SHIPPED.write_text(render(), encoding="utf-8")
