import MicroHTTP
import OrderedJSON

/// Which parts the form of an endpoint may have. A part of any other name is a mistake: nothing reads it.
struct FormLayout: Sendable {
    struct Text: Sendable {
        let name: String
        /// Bytes of one part.
        var limit = 8192
        var isRepeated = false
    }

    /// Names of the parts that hold a file, each once.
    let files: [String]
    let texts: [Text]

    /// Of all text parts of a form.
    static let textCount = 100
    static let textBytes = 1 << 20

    var names: [String] { files + texts.map(\.name) }
}

/// Reads the form of an endpoint to its end: the files in pieces as they arrive, the texts whole. Parts may come in any order.
struct FormReader {
    enum Event {
        /// A file begins.
        case file(name: String, filename: String?, contentType: String?)
        /// Content of the file that began last.
        case bytes([UInt8])
    }

    private enum Part {
        case none
        case file
        case text(FormLayout.Text)
    }

    private let form: FormUpload
    private let layout: FormLayout
    private var part = Part.none
    private var files: [String] = []
    private var texts: [(name: String, value: [UInt8])] = []
    private var textBytes = 0

    init(_ form: FormUpload, _ layout: FormLayout) {
        self.form = form
        self.layout = layout
    }

    /// - Throws: `APIError` for what does not belong into the form, and for one that breaks off.
    mutating func next() async throws -> Event? {
        do {
            while let element = try await form.next() {
                switch element {
                case .part(let name, let filename, let contentType):
                    if let event = try begin(name, filename, contentType) { return event }
                case .bytes(let bytes):
                    guard case .text(let text) = part else { return .bytes(bytes) }
                    try append(bytes, to: text)
                }
            }
            return nil
        } catch FormUploadError.disconnected {
            // The caller left, or the bridge stops: nobody reads an answer.
            throw CancellationError()
        } catch let error as FormUploadError {
            throw APIError(error)
        }
    }

    private mutating func begin(_ name: String, _ filename: String?, _ contentType: String?) throws -> Event? {
        func isNamed(_ known: String) -> Bool { known.utf8.elementsEqual(name.utf8) }
        if let file = layout.files.first(where: isNamed) {
            guard !files.contains(file) else { throw APIError.invalidRequest(file, "There are several parts named '\(file)'; upload one file at a time.") }
            files.append(file)
            part = .file
            return .file(name: file, filename: filename, contentType: contentType)
        }
        guard let text = layout.texts.first(where: { isNamed($0.name) }) else {
            throw APIError.invalidRequest(
                name.excerpt,
                "A part of the form is named '\(name.excerpt)', which means nothing here; possible are \(layout.names.joined(separator: ", ")).")
        }
        guard texts.count < FormLayout.textCount else {
            throw APIError.invalidRequest(text.name, "The form has more than \(FormLayout.textCount) parts beside the file.")
        }
        guard text.isRepeated || !texts.contains(where: { $0.name == text.name }) else {
            throw APIError.invalidRequest(text.name, "There are several parts named '\(text.name)'; send one.")
        }
        part = .text(text)
        texts.append((text.name, []))
        return nil
    }

    private mutating func append(_ bytes: [UInt8], to text: FormLayout.Text) throws {
        let last = texts.count - 1
        guard texts[last].value.count + bytes.count <= text.limit else {
            throw APIError.invalidRequest(
                text.name,
                "The part '\(text.name)' has more than \(text.limit) bytes; the file belongs into the part named '\(layout.files.first ?? "")'.")
        }
        textBytes += bytes.count
        guard textBytes <= FormLayout.textBytes else {
            throw APIError.invalidRequest(text.name, "The parts beside the file have more than \(FormLayout.textBytes) bytes together.")
        }
        try form.keep(bytes.count)
        texts[last].value += bytes
    }

    /// The texts of that name so far, in order.
    func texts(_ name: String) -> [String] {
        texts.filter { $0.name == name }.map { String(decoding: $0.value, as: UTF8.self) }
    }

    /// The text of that name; nil also when it is empty.
    func text(_ name: String) -> String? {
        texts(name).first.flatMap { $0.isEmpty ? nil : $0 }
    }
}
