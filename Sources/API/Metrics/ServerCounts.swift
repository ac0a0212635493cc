import Synchronization

/// What the HTTP server counts, for `/metrics`. The server is built after the endpoint that reads the counts, and attached then.
package final class ServerCounts: Sendable {
    package init() {}

    private let sources = Mutex<(requests: RequestCounts?, openConnections: @Sendable () -> Int)>((nil, { 0 }))

    /// Once, before there are requests.
    package func attach(_ requests: RequestCounts, openConnections: @escaping @Sendable () -> Int) {
        sources.withLock { $0 = (requests, openConnections) }
    }

    package var requests: [RequestCounts.Reading] { sources.withLock(\.requests)?.readings ?? [] }
    package var openConnections: Int { sources.withLock(\.openConnections)() }
}
