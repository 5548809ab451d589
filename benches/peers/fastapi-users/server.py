"""fastapi-users with e-mail and password, Argon2id by pwdlib, a SQLite file through SQLAlchemy.

    PEERS_DATABASE=FILE uvicorn server:app --workers 2

The bearer token is a JWT, as in the full example of its documentation, so a login writes nothing.
"""

import os
import uuid
from collections.abc import AsyncGenerator

from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users.password import PasswordHelper
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from starlette.responses import PlainTextResponse

SECRET = "only for measurements, 32 bytes or more"
DATABASE = os.environ["PEERS_DATABASE"]

# The same cost as Countersign's default; pwdlib's argon2 is Argon2id.
PASSWORDS = PasswordHelper(
    PasswordHash((Argon2Hasher(memory_cost=19456, time_cost=2, parallelism=1, hash_len=32),))
)


class Base(DeclarativeBase):
    pass


class User(SQLAlchemyBaseUserTableUUID, Base):
    pass


engine = create_async_engine(f"sqlite+aiosqlite:///{DATABASE}")
new_session = async_sessionmaker(engine, expire_on_commit=False)


@event.listens_for(engine.sync_engine, "connect")
def set_pragmas(connection, _record) -> None:
    """As Countersign: write-ahead log, commits forced to disk. The workers wait for each other."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 5000")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


async def database_session() -> AsyncGenerator[AsyncSession]:
    async with new_session() as session:
        yield session


async def user_database(session: AsyncSession = Depends(database_session)):
    yield SQLAlchemyUserDatabase(session, User)


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


async def user_manager(users=Depends(user_database)):
    yield UserManager(users, PASSWORDS)


def jwt_strategy() -> JWTStrategy:
    return JWTStrategy(secret=SECRET, lifetime_seconds=3600)


backend = AuthenticationBackend(
    name="jwt",
    transport=BearerTransport(tokenUrl="auth/login"),
    get_strategy=jwt_strategy,
)
users = FastAPIUsers[User, uuid.UUID](user_manager, [backend])


class UserRead(schemas.BaseUser[uuid.UUID]):
    pass


class UserCreate(schemas.BaseUserCreate):
    pass


app = FastAPI()
app.include_router(users.get_auth_router(backend), prefix="/auth")
app.include_router(users.get_register_router(UserRead, UserCreate), prefix="/auth")


@app.get("/worker")
async def worker() -> PlainTextResponse:
    """Tells the driver which worker a connection has reached."""
    return PlainTextResponse(str(os.getpid()))


async def create_tables() -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


if __name__ == "__main__":
    import asyncio

    # Once, before the workers start.
    asyncio.run(create_tables())
