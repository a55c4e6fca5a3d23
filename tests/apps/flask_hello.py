"""The smallest Flask application."""

from flask import Flask, request

app = Flask(__name__)


@app.route("/", methods=["GET", "POST"])
def hello():
    return {"method": request.method, "form": request.form.get("name")}
