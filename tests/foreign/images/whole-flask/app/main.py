from flask import Flask, jsonify, request
from probe import seen

app = Flask(__name__)


@app.route("/")
@app.route("/page/")
@app.route("/a b/")
def page():
    return jsonify(seen(request.environ))
