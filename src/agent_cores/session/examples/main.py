"""Quick start. Runs with no configuration: ``python -m agent_cores.session.examples.main``.

Sessions are kept where ``SESSION_STORAGE_URL`` or ``REDIS_URL`` says, else in an SQLite file in the
user's data folder.
"""

from __future__ import annotations

import asyncio

from agent_cores.session import get_session_manager


async def main() -> None:
    """Create a session, add a message and read it back."""
    # 获取会话管理器
    session_manager = get_session_manager()

    # 初始化会话管理器
    await session_manager.initialize()

    try:
        # 创建会话
        session_id = await session_manager.create_session(
            user_id="user123", metadata={"tags": ["demo"]}
        )

        # 添加消息
        await session_manager.add_message(
            session_id=session_id,
            user_id="user123",
            role="user",
            content="你好，这是一条测试消息",
        )

        # 获取会话消息
        messages = await session_manager.get_session_messages(
            session_id=session_id, user_id="user123"
        )

        print(f"会话消息: {messages}")

    finally:
        # 关闭会话管理器
        await session_manager.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
