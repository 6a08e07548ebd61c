"""`make docs`: writes every generated page; `tests/unit/test_docs.py` fails while a committed page differs."""

from docs.generate.pages import PAGES, ROOT


def main() -> None:
    for name, page in PAGES.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page())


if __name__ == "__main__":
    main()
