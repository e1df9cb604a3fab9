"""A FastAPI app: what it gets is checked against types, and /run/fastapi/openapi.json describes it."""

from fastapi import FastAPI
from pydantic import BaseModel, Field

app = FastAPI(title="Area")


class Rectangle(BaseModel):
    width: float = Field(gt=0)
    height: float = Field(gt=0)


@app.get("/")
async def home():
    return {"try": "POST /area"}


@app.post("/area")
async def area(rectangle: Rectangle):
    return {"area": rectangle.width * rectangle.height}
