"""A small FastAPI application that runs as a service of mcp-manager.

It keeps notes in memory, tells its health, and stops when it is asked to. Everything it writes would have to go to
/tmp or a volume: its root file system is read-only.
"""

import os
import socket
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

app = FastAPI(title="FastAPI example", version="1.0.0")
notes: dict[int, str] = {}


class Note(BaseModel):
    """A note as a client sends it."""

    text: str = Field(min_length=1, max_length=10_000)


@app.get("/health")
def health() -> dict[str, str]:
    """Answer while the application can serve requests."""
    return {"status": "healthy"}


@app.get("/")
def about() -> dict[str, str | None]:
    """Tell what this is, and from which container it answers."""
    database = os.environ.get("DATABASE_URL")
    return {
        "service": os.environ.get("MCP_SERVICE_NAME", "fastapi"),
        "hostname": socket.gethostname(),
        # The scheme alone: an address may hold a password.
        "database": urlsplit(database).scheme if database else None,
    }


@app.get("/notes")
def list_notes() -> dict[int, str]:
    """All notes of this replica, by number."""
    return notes


@app.post("/notes", status_code=201)
def add_note(note: Note) -> dict[str, int]:
    """Keep a note and answer its number."""
    number = len(notes) + 1
    notes[number] = note.text
    return {"number": number}


@app.get("/notes/{number}")
def read_note(number: int) -> dict[str, str]:
    """One note."""
    if number not in notes:
        raise HTTPException(404, f"there is no note {number}")
    return {"text": notes[number]}
