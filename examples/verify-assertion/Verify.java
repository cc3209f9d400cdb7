// Verifies an X-Risk-Assertion with the JDK and Gson. Arguments: URL of the key set, issuer, audience, assertion.

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.math.BigInteger;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.AlgorithmParameters;
import java.security.KeyFactory;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.ECParameterSpec;
import java.security.spec.ECPoint;
import java.security.spec.ECPublicKeySpec;
import java.security.spec.EdECPoint;
import java.security.spec.EdECPublicKeySpec;
import java.security.spec.NamedParameterSpec;
import java.security.spec.RSAPublicKeySpec;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;

public final class Verify {
    private static final String TYPE = "risk-assertion+jwt";
    private static final long LEEWAY_SECONDS = 5;

    public static void main(String[] arguments) throws Exception {
        // Without it the JDK would offer an upgrade to HTTP/2 on plain connections, which riskgate refuses.
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        String keys = client
                .send(
                        HttpRequest.newBuilder(URI.create(arguments[0])).timeout(Duration.ofSeconds(5)).build(),
                        HttpResponse.BodyHandlers.ofString())
                .body();
        try {
            JsonArray set = JsonParser.parseString(keys).getAsJsonObject().getAsJsonArray("keys");
            System.out.println(verify(set, arguments[1], arguments[2], arguments[3]));
        } catch (Exception error) {
            System.err.println(error.getMessage());
            System.exit(1);
        }
    }

    static JsonObject verify(JsonArray keys, String issuer, String audience, String assertion) throws Exception {
        String[] parts = assertion.split("\\.", -1);
        require(parts.length == 3, "not a signed JWT");
        JsonObject header = json(parts[0]);
        require(TYPE.equals(text(header, "typ")), "of another type");
        require(!header.has("crit"), "with extensions that are not understood");
        JsonObject key = find(keys, text(header, "kid"));
        // The key says how it signs, and the assertion must say the same.
        require(text(key, "alg").equals(text(header, "alg")), "signed in another way than its key signs");
        Signature signature = signatureOf(key);
        signature.initVerify(publicKey(key));
        signature.update((parts[0] + "." + parts[1]).getBytes(StandardCharsets.US_ASCII));
        require(signature.verify(bytes(parts[2])), "the signature does not match");

        JsonObject claims = json(parts[1]);
        long now = Instant.now().getEpochSecond();
        require(issuer.equals(text(claims, "iss")), "by another issuer");
        require(isFor(claims.get("aud"), audience), "for another service");
        require(claims.has("sub") && claims.has("jti"), "a claim is missing");
        require(now < claims.get("exp").getAsLong() + LEEWAY_SECONDS, "it has expired");
        require(claims.get("iat").getAsLong() <= now + LEEWAY_SECONDS, "it is not valid yet");
        return claims;
    }

    private static JsonObject find(JsonArray keys, String id) {
        for (JsonElement key : keys) {
            if (id.equals(text(key.getAsJsonObject(), "kid"))) {
                return key.getAsJsonObject();
            }
        }
        throw new IllegalArgumentException("the key is not published");
    }

    private static Signature signatureOf(JsonObject key) throws Exception {
        switch (text(key, "alg")) {
            case "ES256":
                return Signature.getInstance("SHA256withECDSAinP1363Format");
            case "RS256":
                return Signature.getInstance("SHA256withRSA");
            case "EdDSA":
                return Signature.getInstance("Ed25519");
            default:
                throw new IllegalArgumentException("the algorithm is not accepted");
        }
    }

    private static PublicKey publicKey(JsonObject key) throws Exception {
        switch (text(key, "kty")) {
            case "EC":
                AlgorithmParameters parameters = AlgorithmParameters.getInstance("EC");
                parameters.init(new ECGenParameterSpec("secp256r1"));
                ECPoint point = new ECPoint(number(key, "x"), number(key, "y"));
                return KeyFactory.getInstance("EC")
                        .generatePublic(new ECPublicKeySpec(point, parameters.getParameterSpec(ECParameterSpec.class)));
            case "RSA":
                return KeyFactory.getInstance("RSA")
                        .generatePublic(new RSAPublicKeySpec(number(key, "n"), number(key, "e")));
            case "OKP":
                byte[] little = bytes(text(key, "x"));
                boolean isOdd = (little[31] & 0x80) != 0;
                little[31] &= 0x7f;
                byte[] big = new byte[32];
                for (int at = 0; at < 32; at++) {
                    big[at] = little[31 - at];
                }
                EdECPoint edwards = new EdECPoint(isOdd, new BigInteger(1, big));
                return KeyFactory.getInstance("Ed25519")
                        .generatePublic(new EdECPublicKeySpec(NamedParameterSpec.ED25519, edwards));
            default:
                throw new IllegalArgumentException("a key of another type");
        }
    }

    private static boolean isFor(JsonElement audience, String service) {
        if (audience != null && audience.isJsonArray()) {
            for (JsonElement one : audience.getAsJsonArray()) {
                if (service.equals(one.getAsString())) {
                    return true;
                }
            }
            return false;
        }
        return audience != null && service.equals(audience.getAsString());
    }

    private static JsonObject json(String part) {
        return JsonParser.parseString(new String(bytes(part), StandardCharsets.UTF_8)).getAsJsonObject();
    }

    private static String text(JsonObject object, String name) {
        return object.has(name) ? object.get(name).getAsString() : "";
    }

    private static BigInteger number(JsonObject object, String name) {
        return new BigInteger(1, bytes(text(object, name)));
    }

    private static byte[] bytes(String base64) {
        return Base64.getUrlDecoder().decode(base64);
    }

    private static void require(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalArgumentException(otherwise);
        }
    }

    private Verify() {}
}
