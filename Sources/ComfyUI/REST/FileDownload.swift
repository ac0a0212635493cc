import AsyncHTTPClient
package import NIOCore
import NIOHTTP1

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

    init(_ response: HTTPClientResponse, idleLimit: Duration, on eventLoop: any EventLoop) {
        status = Int(response.status.code)
        contentType = response.headers.first(name: "Content-Type")
        contentLength = response.headers.first(name: "Content-Length").flatMap(Int64.init)
        contentRange = response.headers.first(name: "Content-Range")
        etag = response.headers.first(name: "ETag")
        lastModified = response.headers.first(name: "Last-Modified")
        body = Body(source: response.body, idleLimit: idleLimit, eventLoop: eventLoop)
    }

    /// The bytes; can be read once. Fails with `connectionLost` when the server stops before the announced end.
    package struct Body: AsyncSequence, Sendable {
        package typealias Element = ByteBuffer
        package typealias Failure = ComfyUIError

        let source: HTTPClientResponse.Body
        let idleLimit: Duration
        /// Of the limit's timer.
        let eventLoop: any EventLoop

        /// Hands over piece after piece. Fails with `timedOut` when the server sends nothing for the client's `requestTimeout`; the time that
        /// `take` takes does not count. One timer for the whole: a limit for each piece costs more than the piece.
        package func forEach(_ take: @escaping @Sendable (ByteBuffer) async throws -> Void) async throws {
            let activity = Activity()
            let source = source
            try await withIdleLimit(idleLimit, activity, on: eventLoop) {
                do {
                    for try await piece in source {
                        activity.pause()
                        do { try await take(piece) } catch { throw Refusal(reason: error) }
                        activity.note()
                    }
                } catch let refusal as Refusal {
                    throw refusal.reason
                } catch {
                    throw ComfyUIError(transport: error)
                }
            }
        }

        /// What `take` threw, which is not the connection's.
        private struct Refusal: Error {
            let reason: any Error
        }

        package func makeAsyncIterator() -> AsyncIterator { AsyncIterator(iterator: source.makeAsyncIterator()) }

        /// Waits as long as the server does: for a reader with a limit of its own.
        package struct AsyncIterator: AsyncIteratorProtocol {
            fileprivate var iterator: HTTPClientResponse.Body.AsyncIterator

            @concurrent package mutating func next() async throws(ComfyUIError) -> ByteBuffer? {
                do { return try await iterator.next() } catch { throw ComfyUIError(transport: error) }
            }
        }
    }
}
