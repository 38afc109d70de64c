// A client of the session service in one file of Java 17, with nothing but the JDK.
//
//     export AGENT_SESSIONS_KEY=ask_…
//     java examples/java/Client.java http://127.0.0.1:8080
//
// It creates a session, appends a message twice under one Idempotency-Key (it is stored once), and
// reads the messages page by page.

import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public final class Client {
    private final HttpClient http = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .connectTimeout(Duration.ofSeconds(5))
            .build();
    private final String address;
    private final String key;
    private final String userId;

    Client(String address, String key, String userId) {
        this.address = address;
        this.key = key;
        this.userId = userId;
    }

    /** Sends a request; every status but 2xx is an exception that carries the problem's code. */
    HttpResponse<String> send(String method, String path, String body, String idempotencyKey)
            throws IOException, InterruptedException {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(address + path))
                .timeout(Duration.ofSeconds(30))
                .header("Authorization", "Bearer " + key)
                .header("X-User-Id", encode(userId));
        if (idempotencyKey != null) {
            request.header("Idempotency-Key", idempotencyKey);
        }
        if (body == null) {
            request.method(method, HttpRequest.BodyPublishers.noBody());
        } else {
            request.header("Content-Type", "application/json");
            request.method(method, HttpRequest.BodyPublishers.ofString(body));
        }
        HttpResponse<String> answer = http.send(
                request.build(), HttpResponse.BodyHandlers.ofString(StandardCharsets.UTF_8));
        if (answer.statusCode() / 100 != 2) {
            String code = text(answer.body(), "code");
            throw new IOException(method + ": " + answer.statusCode() + " " + code);
        }
        return answer;
    }

    /** Sends an append, and sends it again if the answer was lost: the key makes that safe. */
    HttpResponse<String> append(String sessionId, String role, String content, String onceKey)
            throws IOException, InterruptedException {
        String body = "{\"messages\": [{\"role\": " + quote(role)
                + ", \"content\": " + quote(content) + "}]}";
        return send("POST", "/v1/sessions/" + sessionId + "/messages", body, onceKey);
    }

    /** Reads every message, two to a page. */
    List<String> messages(String sessionId) throws IOException, InterruptedException {
        List<String> contents = new ArrayList<>();
        long after = 0;
        while (true) {
            String page = send("GET", "/v1/sessions/" + sessionId
                    + "/messages?limit=2&after_seq=" + after, null, null).body();
            Matcher seq = Pattern.compile("\\{\"seq\":(\\d+)").matcher(page);
            while (seq.find()) {
                after = Long.parseLong(seq.group(1));
            }
            Matcher content = Pattern.compile("\"content\":\"((?:[^\"\\\\]|\\\\.)*)\"")
                    .matcher(page);
            while (content.find()) {
                contents.add(content.group(1));
            }
            if (page.contains("\"has_more\":false")) {
                return contents;
            }
        }
    }

    /** The value of a text field of a flat object; a real program takes its JSON library. */
    static String text(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\":\"([^\"]*)\"").matcher(json);
        return found.find() ? found.group(1) : "";
    }

    static String quote(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                quoted.append('\\').append(c);
            } else if (c < ' ') {
                quoted.append(String.format("\\u%04x", (int) c));
            } else {
                quoted.append(c);
            }
        }
        return quoted.append('"').toString();
    }

    /** Percent-encodes a user id: Java's form encoding, with the space as the service takes it. */
    static String encode(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8)
                .replace("+", "%20").replace("*", "%2A");
    }

    public static void main(String[] arguments) throws IOException, InterruptedException {
        String address = arguments.length > 0 ? arguments[0] : "http://127.0.0.1:8080";
        Client client = new Client(address, System.getenv("AGENT_SESSIONS_KEY"), "用户 1");

        String created = client.send("POST", "/v1/sessions",
                "{\"title\": \"From Java\"}", UUID.randomUUID().toString()).body();
        String sessionId = text(created, "id");
        System.out.println("created " + text(created, "title"));

        String once = UUID.randomUUID().toString();
        HttpResponse<String> first = client.append(sessionId, "user", "你好", once);
        HttpResponse<String> again = client.append(sessionId, "user", "你好", once);
        System.out.println("first replayed " + replayed(first));
        System.out.println("again replayed " + replayed(again));

        for (int number = 1; number <= 4; number++) {
            client.append(sessionId, "assistant", "answer " + number, UUID.randomUUID().toString());
        }
        System.out.println("messages " + client.messages(sessionId));
    }

    static boolean replayed(HttpResponse<String> answer) {
        return answer.headers().firstValue("Idempotent-Replayed").map("true"::equals).orElse(false);
    }
}
