import AsyncHTTPClient
package import NIOCore
import NIOHTTP1
import Synchronization

/// The answer to `GET /view`: the head, and the body as it comes. Nothing is held but what the reader has not taken yet; a reader that stops
/// early gives the connection up.
package struct FileDownload: Sendable {
    /// 200; 206 for a part; 304 and 416 when the conditions or the range said so.
    package let status: Int
    package let contentType: String?
    /// Bytes of `body`.
    package let contentLength: Int64?
    package let contentRange: String?
    package let etag: String?
    package let lastModified: String?
    package let body: Body

    init(_ response: HTTPClientResponse, idleLimit: Duration) {
        status = Int(response.status.code)
        contentType = response.headers.first(name: "Content-Type")
        contentLength = response.headers.first(name: "Content-Length").flatMap(Int64.init)
        contentRange = response.headers.first(name: "Content-Range")
        etag = response.headers.first(name: "ETag")
        lastModified = response.headers.first(name: "Last-Modified")
        body = Body(source: response.body, idleLimit: idleLimit)
    }

    /// The bytes; can be iterated once. Fails with `timedOut` when the server sends nothing for the client's `requestTimeout` while the reader waits,
    /// and with `connectionLost` when it stops before the announced end.
    package struct Body: AsyncSequence, Sendable {
        package typealias Element = ByteBuffer
        package typealias Failure = ComfyUIError

        let source: HTTPClientResponse.Body
        let idleLimit: Duration

        package func makeAsyncIterator() -> AsyncIterator {
            AsyncIterator(source: Source(source.makeAsyncIterator()), idleLimit: idleLimit)
        }

        package struct AsyncIterator: AsyncIteratorProtocol {
            fileprivate let source: Source
            fileprivate let idleLimit: Duration

            package mutating func next() async throws(ComfyUIError) -> ByteBuffer? {
                let source = source
                do {
                    return try await withTimeLimit(idleLimit) { try await source.next() }
                } catch {
                    throw ComfyUIError(transport: error)
                }
            }
        }
    }

    /// The iterator of the response, handed from one child task to the next.
    fileprivate final class Source: Sendable {
        /// `@unchecked`: it passes through the lock of `slot`, and who took it out there is the only one that has it.
        private struct Handover: @unchecked Sendable {
            var iterator: HTTPClientResponse.Body.AsyncIterator
        }

        private let slot: Mutex<Handover?>

        init(_ iterator: HTTPClientResponse.Body.AsyncIterator) {
            slot = Mutex(Handover(iterator: iterator))
        }

        func next() async throws -> ByteBuffer? {
            guard var handover = slot.withLock({ $0.take() }) else { return nil }
            let chunk = try await handover.iterator.next()  // after an error the iterator is gone, and with it the connection
            slot.withLock { [handover] slot in slot = handover }
            return chunk
        }
    }
}
