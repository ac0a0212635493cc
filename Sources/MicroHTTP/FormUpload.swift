import Synchronization

/// The parts of a `multipart/form-data` body (RFC 7578) while they arrive; nil from the iterator is the end of the whole request.
///
/// One reader. The first `next()` is what makes the server read the body, and its pace is the client's: at most `limit` bytes and one read of
/// the connection wait. A reader that stops early, or never starts, need not do anything: the handler's answer ends the upload.
package final class FormUpload: AsyncSequence, Sendable {
    package enum Element: Sendable, Equatable {
        /// A part begins. Name and file name are as the client sent them, with the escapes of a quoted string and of browsers
        /// (`%22`, `%0D`, `%0A`) undone: a file name may contain anything, directories too.
        case part(name: String, filename: String?, contentType: String?)
        /// Content of the part that began last, 64 KiB and more unless the part ends; none for an empty part.
        case bytes([UInt8])
    }

    /// Bytes that may wait for the reader before the client has to.
    static let limit = 256 * 1024
    /// Bytes that are gathered before the reader is woken.
    static let chunkSize = 64 * 1024

    private let state = Mutex(State())

    // MARK: The reader

    package struct AsyncIterator: AsyncIteratorProtocol {
        let form: FormUpload

        /// - Throws: `FormUploadError`; `CancellationError` when the task is cancelled for another reason than the client's leaving.
        package mutating func next() async throws -> Element? {
            try await form.next()
        }
    }

    package func makeAsyncIterator() -> AsyncIterator { AsyncIterator(form: self) }

    /// - Throws: as the iterator.
    package func next() async throws -> Element? {
        nil
    }
}

package enum FormUploadError: Error, Equatable {
    /// The body is no form; the text is a sentence for the client.
    case malformed(String)
    /// A body of unknown length (chunked) crossed the limit of its route. One that says so beforehand never gets a task.
    case tooLarge(limit: Int)
    /// The client left, or the server stops.
    case disconnected
}

private struct State {}
