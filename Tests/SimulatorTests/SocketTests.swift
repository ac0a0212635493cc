import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

@Suite(.timeLimit(.minutes(1)))
struct SocketTests {
    @Test func greetsWithStatusAndSid() async throws {
        try await withSimulator { server in
            let socket = try await server.socket("me", flags: false)
            let first = await socket.next()
            #expect(first?.data == ["status": ["exec_info": ["queue_remaining": 0]], "sid": "me"])
            try await socket.close()
        }
    }
}
