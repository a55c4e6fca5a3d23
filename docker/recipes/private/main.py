import humanize
from flask import Flask

app = Flask(__name__)


@app.get("/")
def page() -> str:
    return f"the recipe with {humanize.intcomma(1)} private dependency\n"
