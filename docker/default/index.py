"""The page of an image that has no application yet: COPY yours to /app."""

from flask import Flask

app = Flask(__name__)

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pyserve is running</title>
<style>
  :root { color-scheme: light dark; font: 1rem/1.6 system-ui, sans-serif }
  body { max-width: 42rem; margin: 12vh auto; padding: 0 1.5rem }
  code { font-size: .95em }
</style>
<h1>pyserve is running</h1>
<p>This image has no application yet. Copy yours to <code>/app</code>:</p>
<pre><code>FROM pyserve:batteries
COPY . /app</code></pre>
<p><code>docker run IMAGE help images</code> shows the manual.</p>
</html>
"""


@app.get("/")
def page() -> str:
    return PAGE
