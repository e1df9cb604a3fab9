"""A shopping list as a Flask app. Its routes begin at /run/flask, and `url_for` knows."""

from flask import Flask, request, url_for

app = Flask(__name__)
items = []


@app.get("/")
def home():
    return {"items": items, "add": url_for("add")}


@app.post("/items")
def add():
    item = request.get_json()["item"]
    items.append(item)
    return {"items": items}, 201
