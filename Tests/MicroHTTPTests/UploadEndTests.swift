@testable import MicroHTTP
import Testing

/// Uploads that do not come to their end.
@Suite(.timeLimit(.minutes(5)), .serialized) struct UploadEndTests {
    @Test("The client leaves", arguments: Leaving.allCases, [0, 1000, 290_000])
    func disconnect(_ leaving: Leaving, sent: Int) async throws {
        let reading = Signal<FormUpload>()
        let ended = Signal<String>()
        let respond: @Sendable (Request) async -> Response = { request in
            guard let form = request.form else { return .text("hello") }
            do {
                if sent > FormUpload.limit {
                    // The connection is suspended, as nobody reads. So little is left that the client's FIN fits into the kernel's buffers.
                    _ = try await form.next()
                    reading.send(form)
                    await Gate().wait()  // until cancelled
                } else {
                    reading.send(form)
                }
                while try await form.next() != nil {}
                ended.send("whole")
            } catch {
                ended.send("\(error), \(Task.isCancelled ? "cancelled" : "going on")")
            }
            return .text("too late")
        }
        try await withServer(uploadLimit: Upload.limit, respond: respond) { server in
            let client = try await Upload.begin(port: server.port, sent: sent)
            let form = try await reading.next()
            if sent > FormUpload.limit { try await server.until("the form is full") { form.isFull } }
            leaving.perform(client.client)
            let end = try await ended.next()
            #expect(end.hasPrefix("disconnected"))
            if sent > FormUpload.limit { #expect(end == "disconnected, cancelled") }
            client.client.close()
            #expect(try await server.withClient { try $0.post("/other", []).status } == 200)
        }
    }

    @Test("A client that stops in the middle is answered with 408, one that waits for the reader is not")
    func idle() async throws {
        let ended = Signal<String>()
        let gate = Gate()
        let reading = Signal<FormUpload>()
        let respond: @Sendable (Request) async -> Response = { request in
            if request.path == "/upload/slow" {
                reading.send(request.form!)
                let first = try? await request.form?.next()
                await gate.wait()
                return .text("\(await Upload.size(request.form!)) after \(String(describing: first))")
            }
            do { while try await request.form?.next() != nil {} } catch { ended.send("\(error)") }
            return .text("too late")
        }
        try await withServer(.init(threads: 2, bodyTimeout: .seconds(1)), uploadLimit: Upload.limit, respond: respond) { server in
            async let slow = server.withClient { client in
                try client.post("/upload/slow", Upload.form(pattern(5_000_000)), headers: Upload.type).text
            }
            let form = try await reading.next()
            try await server.until("the form is full") { form.isFull }
            let client = try await Upload.begin(port: server.port, sent: 500)
            #expect(try await ended.next() == "disconnected")
            #expect(try await offPool { try client.client.reply().status } == 408)
            gate.open()
            #expect(try await slow.hasPrefix("5000000 after Optional"))
        }
    }

    @Test("The server stops in the middle of uploads", arguments: [0, 1000, 290_000])
    func stop(sent: Int) async throws {
        let reading = Signal<FormUpload>()
        let ended = Signal<String>()
        let respond: @Sendable (Request) async -> Response = { request in
            let form = request.form!
            do {
                if sent > FormUpload.limit { _ = try await form.next() }
                reading.send(form)
                if sent > FormUpload.limit { await Gate().wait() }
                while try await form.next() != nil {}
            } catch {
                ended.send("\(error)")
            }
            return .text("late", status: 500)
        }
        let configuration = HTTPServer.Configuration(threads: 2, drainTimeout: .milliseconds(100))
        let reply = try await withServer(configuration, uploadLimit: Upload.limit, respond: respond) { server in
            let client = try await Upload.begin(port: server.port, sent: sent)
            let form = try await reading.next()
            if sent > FormUpload.limit { try await server.until("the form is full") { form.isFull } }
            server.stop()
            #expect(try await ended.next() == "disconnected")
            return try await offPool { try client.client.reply() }
        }
        #expect(reply.status == 503)
        #expect(reply.text == "shutting down")
    }

    @Test("An upload that ends within the drain timeout is heard")
    func drain() async throws {
        let reading = Signal<Void>()
        let respond: @Sendable (Request) async -> Response = { request in
            guard let form = request.form else { return .text("no form") }
            _ = try? await form.next()
            reading.send()
            return .text("\(await Upload.size(form))")
        }
        let configuration = HTTPServer.Configuration(threads: 2, drainTimeout: .seconds(30))
        let reply = try await withServer(configuration, uploadLimit: Upload.limit, respond: respond) { server in
            let port = server.port
            let body = Upload.form(pattern(1_000_000))
            let client = try await offPool {
                let client = try Client(port: port)
                try client.send("POST /upload HTTP/1.1\r\nHost: a\r\n\(Upload.type)Content-Length: \(body.count)\r\n\r\n")
                try client.send(Array(body[..<500_000]))
                return Handed(client)
            }
            try await reading.next()
            server.stop()
            return try await offPool {
                // The stop has been heard of when connections are closed behind their answers.
                while try Client(port: port).get("/").headers["Connection"] != "close" {}
                try client.client.send(Array(body[500_000...]))
                return try client.client.reply()
            }
        }
        #expect(reply.text == "1000000")
        #expect(reply.headers["Connection"] == "close")
    }

    @Test("Cancelling the reader ends its waiting")
    func cancelledReader() async throws {
        let respond: @Sendable (Request) async -> Response = { request in
            let form = request.form!
            return await withTaskGroup(of: String.self) { group in
                group.addTask {
                    do {
                        while try await form.next() != nil {}
                        return "whole"
                    } catch { return "\(error)" }
                }
                group.cancelAll()
                return .text(await group.next() ?? "", status: 400)
            }
        }
        try await withServer(uploadLimit: Upload.limit, respond: respond) { server in
            try await server.withClient { client in
                try client.send("POST /upload HTTP/1.1\r\nHost: a\r\n\(Upload.type)Content-Length: 20000000\r\n\r\n")
                #expect(try client.reply().text == "CancellationError()")
            }
        }
    }

    @Test("Many uploads at once, whose clients leave at any moment, and handlers answer at any moment")
    func churn() async throws {
        let content = pattern(600_000)
        let respond: @Sendable (Request) async -> Response = { request in
            guard let form = request.form else { return .text("hello") }
            var received: [UInt8] = []
            var left = request.queryValue("take").flatMap { Int($0) } ?? 0
            do {
                while left > 0, let element = try await form.next() {
                    if case .bytes(let bytes) = element { received += bytes }
                    left -= 1
                }
            } catch { return .text("\(error)", status: 400) }
            return .text(isSame(received, Array(content.prefix(received.count))) ? "right" : "wrong", status: left % 2 == 0 ? 200 : 409)
        }
        try await withServer(uploadLimit: Upload.limit, respond: respond) { server in
            let port = server.port
            let body = Upload.form(content)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for thread in 0..<6 {
                    group.addTask {
                        try await offPool {
                            for round in 0..<40 {
                                let client = try Client(port: port)
                                let take = [0, 1, 3, 7, 100][(round + thread) % 5]
                                let head = "Host: a\r\n\(Upload.type)Content-Length: \(body.count)"
                                try client.send("POST /upload?take=\(take) HTTP/1.1\r\n\(head)\r\n\r\n")
                                if round % 4 == 0 {
                                    try? client.send(Array(body.prefix(round * 15_000)))
                                    if round % 8 == 0 { client.reset() } else { client.close() }
                                } else {
                                    try? client.send(body)  // it may be refused before all is sent
                                    #expect(try client.reply().text == "right")
                                }
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(try await server.withClient { try $0.get("/").text } == "hello")
        }
    }
}
