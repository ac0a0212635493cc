import Testing

@testable import API
@testable import Jobs

/// Bytes of events that viewers share.
@Suite struct EventEncodingsTests {
    @Test func bytesAreMadeOnceForEachKind() {
        let logged = LoggedEvent(sequence: 1, id: 1, event: .log(LogEntry(.info, "x")))
        var made = 0
        for base in ["a", "b", "a", "b"] {
            _ = logged.encoding(for: EncodingKey(previews: .none, base: base)) { _ in
                made += 1
                return [1]
            }
        }
        #expect(made == 2)
    }

    @Test func bytesThatAreNotKeptAreMadeForEachViewer() {
        var log = EventLog(previewLimit: 3)
        log.append(.log(LogEntry(.info, "x")))
        log.append(.preview(Preview(number: 1, node: "1", contentType: "image/png", bytes: [1])))
        var made = 0
        func readAll() {
            for logged in log.events(after: 0, limit: 9) {
                _ = logged.encoding(for: EncodingKey(previews: .base64, base: "a")) { _ in
                    made += 1
                    return [1]
                }
            }
        }
        readAll()
        readAll()
        #expect(made == 2)
        log.forgetRenderings()
        readAll()
        readAll()
        #expect(made == 6)
    }
}
