@testable import MicroHTTP
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5))) struct FormUploadTests {
    private func form(maximumSize: Int = .max, onWake: @escaping @Sendable () -> Void = {}) throws -> FormUpload {
        let form = try #require(FormUpload(contentType: "multipart/form-data; boundary=XX", maximumSize: maximumSize))
        form.attach(wake: onWake)
        return form
    }

    private func receive(_ bytes: [UInt8], by form: FormUpload) {
        bytes.withUnsafeBytes { form.receive($0) }
    }

    private func part(_ name: String) -> [UInt8] {
        Array("\r\n--XX\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n".utf8)
    }

    @Test("Small pieces are gathered; a part ends the gathering, and so does the end")
    func gathering() async throws {
        let form = try form()
        receive(part("a"), by: form)
        for _ in 0..<40 { receive(pattern(4096), by: form) }
        receive(part("b") + [1] + part("c") + Array("23\r\n--XX--".utf8), by: form)
        form.finish()
        var seen: [String] = []
        for try await element in form {
            switch element {
            case .part(let name, _, _): seen.append(name)
            case .bytes(let bytes): seen.append("\(bytes.count)")
            }
        }
        #expect(seen == ["a", "65536", "65536", "32768", "b", "1", "c", "2"])
        #expect(form.waitingBytes == 0)
    }

    @Test("A waiting reader is woken by the first 64 KiB, not by less")
    func waking() async throws {
        let wakes = Signal<Void>()
        let form = try form(onWake: { wakes.send() })
        receive(part("a"), by: form)
        #expect(try await form.next() == .part(name: "a", filename: nil, contentType: nil))
        try await wakes.next()
        async let next = form.next()
        try await wakes.next()
        for _ in 0..<16 { receive(pattern(4096), by: form) }
        let element = try await next
        #expect(element == .bytes((0..<16).flatMap { _ in pattern(4096) }))
    }

    @Test("More is asked for when half of the limit is taken")
    func lowWater() async throws {
        let wakes = Atomic(0)
        let form = try form(onWake: { wakes.add(1, ordering: .relaxed) })
        receive(part("a"), by: form)
        while !form.isFull { receive(pattern(4096), by: form) }
        var waiting: [Int] = []
        while wakes.load(ordering: .relaxed) == 0 {
            _ = try await form.next()
            waiting.append(form.waitingBytes)
        }
        // After the part: 64 KiB at a time.
        #expect(waiting == [4, 3, 2].map { $0 * 65_536 })
    }

    @Test("Parts without content count as well")
    func emptyParts() throws {
        let form = try form()
        var parts = 0
        while !form.isFull {
            receive(part("a"), by: form)
            parts += 1
        }
        #expect(parts < FormUpload.limit / 256 + 1)
    }

    @Test("A failure drops what waits, and is final", arguments: [FormUploadError.disconnected, .malformed("x")])
    func failure(_ error: FormUploadError) async throws {
        let form = try form()
        receive(part("a") + pattern(100_000), by: form)
        form.fail(error)
        form.fail(.tooLarge(limit: 1))
        receive(pattern(100_000), by: form)
        form.finish()
        #expect(form.waitingBytes == 0)
        #expect(form.isFull)
        for _ in 0..<2 { await #expect(throws: error) { try await form.next() } }
    }

    @Test func tooLarge() async throws {
        let form = try form(maximumSize: 1000)
        receive(part("a"), by: form)
        receive(pattern(1000 - part("a").count), by: form)
        #expect(!form.isFull)
        receive([1], by: form)
        await #expect(throws: FormUploadError.tooLarge(limit: 1000)) { try await form.next() }
    }

    @Test("Cancelled before it waits and while it waits")
    func cancellation() async throws {
        let wakes = Signal<Void>()
        let form = try form(onWake: { wakes.send() })
        let reader = Task { try await form.next() }
        try await wakes.next()
        reader.cancel()
        await #expect(throws: CancellationError.self) { try await reader.value }
        // It may be asked again.
        receive(part("a"), by: form)
        let element = try await form.next()
        #expect(element == .part(name: "a", filename: nil, contentType: nil))
    }
}
