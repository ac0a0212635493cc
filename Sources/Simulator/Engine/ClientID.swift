import OrderedJSON

/// The `client_id` of a prompt: who gets its events (protocol sections 2.1, 8.4 and 13).
enum ClientID: Sendable, Equatable {
    /// No key, or null: some events go to everybody, the others to nobody.
    case absent
    case id(String)
    /// A number or boolean: no socket has such an id, so all events go to nobody.
    case unmatched
    /// A list or object: the sending loop raises at the first event and the server ends.
    case unhashable

    init(_ json: JSON?) {
        self =
            switch json {
            case nil, .null?: .absent
            case .string(let text)?: .id(text)
            case .number?, .bool?: .unmatched
            case .array?, .object?: .unhashable
            }
    }

    var isAbsent: Bool { self == .absent }
}
