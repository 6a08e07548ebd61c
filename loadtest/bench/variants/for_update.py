"""The textbook design: FastAPI, SQLAlchemy's ORM, SELECT ... FOR UPDATE on the quota, served by uvicorn on uvloop."""

import os
from typing import Annotated, ClassVar

import uvicorn
from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import BigInteger, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from loadtest.bench.serving import PORT_VARIABLE, POSTGRES_DSN_VARIABLE, body_bytes
from loadtest.bench.variants import tables
from loadtest.bench.variants.essentials import GRANTED, HOLD_MS, Claim, Verdict, answer_body, claim_of
from loadtest.bench.variants.variant import Rival

SCHEMA = "bench_for_update"
POOL = 16
HEAD = (
    "HTTP/1.1 201 Created\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\nserver: uvicorn\r\n"
    "content-length: \r\ncontent-type: application/json\r\n\r\n"
)


class ForUpdate(Rival):
    """A row lock for each request."""

    name: ClassVar[str] = "for_update"
    title: ClassVar[str] = f"FastAPI, SQLAlchemy ORM, asyncpg (pool of {POOL}), FOR UPDATE, uvicorn (h11)"

    async def prepare(self) -> None:
        ground = self.ground
        await tables.create(ground.postgres_dsn, SCHEMA, dict.fromkeys(ground.quotas, ground.capacity))

    async def held(self) -> int | None:
        return await tables.held(self.ground.postgres_dsn, SCHEMA)


class Base(DeclarativeBase):
    pass


class Quota(Base):
    __tablename__ = "quotas"
    id: Mapped[str] = mapped_column(primary_key=True)
    capacity: Mapped[int]
    remaining: Mapped[int]


class Reservation(Base):
    __tablename__ = "reservations"
    id: Mapped[str] = mapped_column(primary_key=True)
    person: Mapped[str]
    quota: Mapped[str]
    fingerprint: Mapped[str]
    deadline_ms: Mapped[int] = mapped_column(BigInteger)


class Applicant(BaseModel):
    nik: str
    name: str
    birth_date: str


class ClaimBody(BaseModel):
    quota: str
    applicants: list[Applicant]
    contact: dict[str, str]


async def decide(session: AsyncSession, claim: Claim) -> Verdict:
    """Check and book within the session's transaction."""
    known = await session.get(Reservation, claim.reservation_id)
    if known is not None:
        return Verdict("exists", known.deadline_ms)
    if await session.scalar(select(Reservation.id).where(Reservation.person == claim.person)):
        return Verdict("duplicate_applicant", 0)
    now_ms = func.floor(func.extract("epoch", func.clock_timestamp()) * 1000).cast(BigInteger)
    row = (await session.execute(select(Quota, now_ms).where(Quota.id == claim.quota).with_for_update())).one_or_none()
    if row is None:
        return Verdict("unknown_quota", 0)
    quota, now = row
    if quota.remaining < 1:
        return Verdict("sold_out", 0)
    quota.remaining -= 1
    deadline_ms = now + HOLD_MS
    session.add(
        Reservation(
            id=claim.reservation_id,
            person=claim.person,
            quota=claim.quota,
            fingerprint=claim.fingerprint,
            deadline_ms=deadline_ms,
        )
    )
    return Verdict("held", deadline_ms)


def make_app() -> FastAPI:
    engine = create_async_engine(
        os.environ[POSTGRES_DSN_VARIABLE].replace("postgresql://", "postgresql+asyncpg://", 1),
        pool_size=POOL,
        max_overflow=0,
        connect_args={"server_settings": tables.session(SCHEMA)},
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    total_bytes = body_bytes(HEAD)
    app = FastAPI()

    @app.post("/v1/reservations")
    async def answer(wanted: ClaimBody, request: Request, idempotency_key: Annotated[str, Header()]) -> Response:
        claim = claim_of(wanted.quota, wanted.applicants[0].nik, idempotency_key, await request.body())
        try:
            async with sessions() as session, session.begin():
                outcome, deadline_ms = await decide(session, claim)
        except IntegrityError:  # the same person in two requests at once
            outcome, deadline_ms = "duplicate_applicant", 0
        if outcome not in GRANTED:
            return JSONResponse({"outcome": outcome}, status_code=409)
        return Response(answer_body(claim, deadline_ms, total_bytes), status_code=201, media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(
        make_app(),
        host="127.0.0.1",
        port=int(os.environ[PORT_VARIABLE]),
        loop="uvloop",
        backlog=4096,
        access_log=False,
        log_level="warning",
    )
