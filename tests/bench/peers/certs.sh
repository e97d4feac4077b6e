# Certificates for pairs that no control plane serves: one EC P-256 authority, a leaf with a SPIFFE ID for each side.
# Defines `certificates DIRECTORY [NAME]`, which leaves ca.crt, frontend.{crt,key,pem} and backend.{crt,key,pem} there. NAME
# is what a leaf is called instead of its SPIFFE ID, with ACCOUNT where the account stands.
certificates() {
  local directory=$1 called=${2:-URI:spiffe://cluster.local/ns/dev/sa/ACCOUNT} name
  mkdir -p "$directory"
  ( cd "$directory"
    [ -f backend.pem ] && exit 0
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout ca.key -out ca.crt -days 30 \
      -subj /O=cluster.local -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2> /dev/null
    for name in frontend backend; do
      openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout "$name.key" -out "$name.csr" \
        -subj /O=cluster.local 2> /dev/null
      openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$name.crt" -extfile - 2> /dev/null <<X
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature,keyEncipherment
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=critical,${called/ACCOUNT/$name}
X
      cat "$name.crt" "$name.key" > "$name.pem"
    done
    chmod 644 ./* )
}
