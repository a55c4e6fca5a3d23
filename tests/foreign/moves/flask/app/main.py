import os

from flask import Flask, jsonify, request

app = Flask(__name__, static_folder=None)


@app.get("/")
def index():
    return "the counter\n"


@app.route("/count/<int:number>", methods=["GET", "POST"])
def count(number):
    return jsonify(number=number + 1, method=request.method, host=request.host, ready=os.path.exists("/tmp/counter-ready"))
