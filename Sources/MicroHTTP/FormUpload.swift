import Synchronization

/// The parts of a `multipart/form-data` body (RFC 7578) while they arrive. The end is the end of the whole request.
///
/// One reader, at its own pace: the server begins to read the body when it first asks, and the client has to wait while 256 KiB are not taken.
/// It may stop early or never begin, the handler's answer ends the upload: an error (status 400 and above) is sent at once, unless there
/// is little left, and the connection closed; other answers are sent when the rest has been read and thrown away.
///
/// A client that leaves is noticed at once while it sends; but while it has to wait for the reader, its FIN may be stuck behind bytes that
/// nobody takes, and is then seen when the reader goes on.
package final class FormUpload: AsyncSequence, Sendable {
    package enum Element: Sendable, Equatable {
        /// A part begins. Name and file name are as the client sent them, with the escapes of a quoted string and of browsers
        /// (`%22`, `%0D`, `%0A`) undone: a file name may contain anything but NUL, directories too.
        case part(name: String, filename: String?, contentType: String?)
        /// Content of the part that began last, in pieces of 64 KiB and more but for the last; none if the part is empty.
        case bytes([UInt8])
    }

    /// Bytes that may wait for the reader; one read of the connection comes on top.
    static let limit = 256 * 1024
    /// Bytes gathered before the reader is woken for them.
    static let chunkSize = 64 * 1024

    /// Of the whole body.
    private let maximumSize: Int
    /// For what waits for the reader, and for what the reader keeps.
    private let share: BodyShare?
    /// Used by the thread of the connection only, so nobody waits for this lock.
    private let arrival: Mutex<Arrival>
    private let state = Mutex(State())

    private struct Arrival {
        var parser: MultipartParser
        var size = 0
    }

    /// Whether the content is called a form; its boundary may be unusable still.
    package static func isForm(contentType: String?) -> Bool {
        let name = "multipart/form-data"
        guard let contentType, HTTPHeaders.isSame(String(Substring(contentType.utf8.prefix(name.utf8.count))), name) else { return false }
        return ParameterizedValue(contentType).map { HTTPHeaders.isSame($0.value, name) } ?? true
    }

    /// Nil if the content is no form.
    init?(contentType: String?, maximumSize: Int, share: BodyShare? = nil) {
        guard let contentType, Self.isForm(contentType: contentType) else { return nil }
        let value = ParameterizedValue(contentType)
        self.maximumSize = maximumSize
        self.share = share
        let boundary = value?["boundary"] ?? ""
        arrival = Mutex(Arrival(parser: MultipartParser(boundary: boundary)))
        // RFC 2046 has 70 characters and not all of these; there are clients that use others.
        if boundary.isEmpty || boundary.utf8.count > 200 || !boundary.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) {
            fail(.malformed("The Content-Type has no usable boundary; it is written multipart/form-data; boundary=…"))
        }
    }

    // MARK: The reader

    package struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let form: FormUpload

        /// - Throws: as `FormUpload.next()`.
        package mutating func next() async throws -> Element? { try await form.next() }
    }

    package func makeAsyncIterator() -> AsyncIterator { AsyncIterator(form: self) }

    /// - Throws: `FormUploadError`; `CancellationError` when the task is cancelled while it waits, but `FormUploadError.disconnected` if that
    ///   is because the client left.
    package func next() async throws -> Element? {
        let (ready, wake) = state.withLock { ($0.take(), $0.needsMore ? $0.wake : nil) }
        wake?()
        if let ready { return try ready.get() }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                if let ready = state.withLock({ $0.wait(continuation) }) { continuation.resume(with: ready) }
                if Task.isCancelled { cancelWaiting() }
            }
        } onCancel: {
            cancelWaiting()
        }
    }

    /// Sets memory aside for content that the reader keeps, until the form goes.
    ///
    /// - Throws: `FormUploadError.noMemory`.
    package func keep(_ count: Int) throws(FormUploadError) {
        guard share?.grow(by: count) ?? true else { throw .noMemory }
    }

    private func cancelWaiting() {
        state.withLock { $0.takeWaiter() }?.resume(throwing: CancellationError())
    }

    // MARK: The server

    /// `wake` is called when the reader wants more than there is.
    func attach(wake: @escaping @Sendable () -> Void) {
        state.withLock { $0.wake = wake }
    }

    /// Enough waits for the reader, or nothing can be taken any more.
    var isFull: Bool { state.withLock { $0.isFull } }

    /// Bytes that wait for the reader, counting what parts without content take as well.
    var waitingBytes: Int { state.withLock { $0.size } }

    /// A piece of the body. On the thread of the connection.
    func receive(_ bytes: UnsafeRawBufferPointer) {
        arrival.withLock { arrival in
            arrival.size += bytes.count
            guard arrival.size <= maximumSize else { return fail(.tooLarge(limit: maximumSize)) }
            do throws(FormUploadError) {
                try arrival.parser.parse(bytes) { event in deliver { $0.add(event) } }
            } catch {
                fail(error)
            }
        }
    }

    /// The body is complete. On the thread of the connection.
    func finish() {
        do throws(FormUploadError) {
            try arrival.withLock { arrival throws(FormUploadError) in try arrival.parser.finish() }
            deliver { $0.end(.success(nil)) }
        } catch {
            fail(error)
        }
    }

    /// What the reader has not taken is dropped.
    func fail(_ error: FormUploadError) {
        deliver { $0.end(.failure(error)) }
    }

    private func deliver(_ change: (inout State) -> Void) {
        let (waiter, ready) = state.withLock { state -> (Continuation?, Ready?) in
            change(&state)
            guard state.isAwaited, let ready = state.take() else { return (nil, nil) }
            return (state.takeWaiter(), ready)
        }
        if let waiter, let ready { waiter.resume(with: ready) }
    }
}

package enum FormUploadError: Error, Equatable {
    /// The body is no form; the text is a sentence for the client.
    case malformed(String)
    /// A body of unknown length (chunked) crossed the limit of its route. One whose length is known never gets a task.
    case tooLarge(limit: Int)
    /// All bodies under way take too much memory together.
    case noMemory
    /// The client left, or the server stops.
    case disconnected
}

private typealias Ready = Result<FormUpload.Element?, any Error>
private typealias Continuation = CheckedContinuation<FormUpload.Element?, any Error>

private struct State {
    var wake: (@Sendable () -> Void)?
    private var elements: [FormUpload.Element] = []
    /// The elements before it are taken.
    private var first = 0
    /// Content of the last part, on its way to become an element.
    private var gathered: [UInt8] = []
    private(set) var size = 0
    private var end: Ready?
    private var waiter: Continuation?

    var isAwaited: Bool { waiter != nil }
    var isFull: Bool { end != nil || size >= FormUpload.limit }
    /// Well below the limit, so that a connection is not suspended and resumed for every element.
    var needsMore: Bool { end == nil && size <= FormUpload.limit / 2 }

    mutating func add(_ event: MultipartParser.Event) {
        guard end == nil else { return }
        switch event {
        case .part(let name, let filename, let contentType):
            flush()
            append(.part(name: name, filename: filename, contentType: contentType))
        case .content(let bytes):
            gathered.append(contentsOf: bytes)
            size += bytes.count
            if gathered.count >= FormUpload.chunkSize { flush() }
        }
    }

    private mutating func flush() {
        guard !gathered.isEmpty else { return }
        elements.append(.bytes(gathered))
        gathered = []
    }

    private mutating func append(_ part: FormUpload.Element) {
        elements.append(part)
        size += part.cost
    }

    mutating func end(_ end: Ready) {
        if case .failure = self.end { return }
        self.end = end
        wake = nil
        switch end {
        case .success: flush()
        case .failure:
            elements = []
            first = 0
            gathered = []
            size = 0
        }
    }

    /// What the reader gets now; nil if it has to wait.
    mutating func take() -> Ready? {
        if case .failure = end { return end }
        guard first < elements.count else { return end }
        let element = elements[first]
        elements[first] = .bytes([])
        first += 1
        if first == elements.count || first >= 64 {
            elements.removeFirst(first)
            first = 0
        }
        size -= element.cost
        return .success(element)
    }

    /// - Returns: what came in the meantime, instead of waiting.
    mutating func wait(_ continuation: Continuation) -> Ready? {
        precondition(waiter == nil, "a form has one reader")
        if let ready = take() { return ready }
        waiter = continuation
        return nil
    }

    mutating func takeWaiter() -> Continuation? {
        defer { waiter = nil }
        return waiter
    }
}

extension FormUpload.Element {
    /// Bytes of memory, so that thousands of empty parts count as well.
    fileprivate var cost: Int {
        switch self {
        case .part(let name, let filename, let contentType):
            256 + name.utf8.count + (filename?.utf8.count ?? 0) + (contentType?.utf8.count ?? 0)
        case .bytes(let bytes): bytes.count
        }
    }
}
